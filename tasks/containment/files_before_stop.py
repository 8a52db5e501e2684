"""§3: note which files of the root are there before the stop lets the workload run once more, and may delete them."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from blocks.workload_fields import WorkloadFields
from tasks.acquisition.matching import find_names
from tasks.collectors.code import globs_of, survey
from tasks.custody.containment.receipt import FileBefore
from tasks.custody.evidence.keys import quote, unquote
from tasks.incident.directory import find_own_places


def list_files(workload: WorkloadFields, known: Iterable[FileBefore]) -> list[FileBefore]:
    """Return the files that collectors would take of the root now, after those that are `known` already."""
    root = os.fsencode(workload.root)
    by_field = reversed(globs_of(workload).items())  # a pattern's field before `folders`, which may have it too
    fields = {name: field for field, globs in by_field for name in find_names(root, globs)[0]}
    before = {each.name: each for each in known}
    for name in sorted({*fields, *survey(workload, find_own_places(workload)).all_names}):
        if inode := _inode_of(root, name):
            before.setdefault(quote(name), FileBefore(quote(name), inode, fields.get(name, "")))
    return [*before.values()]


def select_deleted(workload: WorkloadFields, before: Iterable[FileBefore], taken: Collection[str]) -> list[FileBefore]:
    """Return which of these files are neither there, by whatever name, nor in the evidence by the sources `taken`."""
    root = os.fsencode(workload.root)
    gone = [each for each in before if each.name not in taken and not os.path.lexists(_path(root, unquote(each.name)))]
    there = set(_inodes(workload, root)) if gone else set()
    return [each for each in gone if each.inode not in there]


def _inodes(workload: WorkloadFields, root: bytes) -> Iterator[int]:
    for name in survey(workload, find_own_places(workload)).all_names:
        if inode := _inode_of(root, name):
            yield inode


def _inode_of(root: bytes, name: bytes) -> int:
    """Return the inode of a regular file; 0 if there is none."""
    with suppress(OSError):
        status = os.lstat(_path(root, name))
        return status.st_ino if stat.S_ISREG(status.st_mode) else 0
    return 0


def _path(root: bytes, name: bytes) -> bytes:
    return os.path.join(root, name)  # noqa: PTH118  a hostile name is bytes
