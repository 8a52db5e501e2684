"""§3: note which files of the root are there before the stop lets the workload run once more, and may delete them."""

import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from math import isinf
from typing import Final

from blocks.workload_fields import WorkloadFields
from tasks.acquisition.collector import Target
from tasks.collectors.code import survey
from tasks.collectors.open_files import hold
from tasks.custody.evidence.keys import quote, unquote
from tasks.custody.evidence.last_write import LastWrite
from tasks.host.process.open_files import birth_of
from tasks.incident.directory import find_own_places
from tasks.runtime.frozen import load_frozen
from tasks.runtime.state import IncidentState

_MICRO: Final = 1_000_000
_INODE_BITS: Final = 64
NOT_HELD: Final = "what was written during the stop out of the root is not known 停止中の書き込みは不明"
NOT_KNOWN: Final = "what was deleted during the stop is not known 停止中の削除は不明"


def hold_files(block: WorkloadFields, state: IncidentState) -> list[LastWrite]:
    """Keep open what processes have open out of the root, or deleted, until it is collected after their end."""
    frozen = [(each.pid, each.start) for each in sorted(load_frozen(state))]
    return [*hold(Target("", str(block.root), "", 0, {}, frozen, apart=find_own_places(block)))]


def list_files(workload: WorkloadFields) -> dict[str, int]:
    """Return what tells each file of the root that collectors would take or name from any other, by its quoted name.

    Raises OSError if the root cannot be read.
    """
    root, found, walk = os.fsencode(workload.root), dict[str, int](), survey(workload, find_own_places(workload))
    for name in walk.all_names | {each.name for each in walk.remainders}:
        with suppress(OSError):
            status = os.lstat(path := _path(root, name))
            if stat.S_ISREG(status.st_mode):
                found[quote(name)] = _number(os.fsdecode(path), status.st_ino)
    return found


def _number(path: str, inode: int) -> int:
    """Return a file's inode with the time of its birth: the next new file may get the inode of one that is deleted."""
    born = birth_of(path)
    return inode if isinf(born) else inode + (int(born * _MICRO) << _INODE_BITS)


def select_deleted(workload: WorkloadFields, before: Mapping[str, int], taken: Collection[str]) -> list[str]:
    """Return which of these files are neither there, by whatever name, nor in the evidence by the sources `taken`.

    Raises OSError if the root cannot be read.
    """
    root = os.fsencode(workload.root)
    gone = [name for name in before if name not in taken and not os.path.lexists(_path(root, unquote(name)))]
    there = {*list_files(workload).values()} if gone else set[int]()
    return sorted(name for name in gone if before[name] not in there)


def _path(root: bytes, name: bytes) -> bytes:
    return os.path.join(root, name)  # noqa: PTH118  a hostile name is bytes
