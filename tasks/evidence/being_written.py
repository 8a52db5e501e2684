"""§4: find what was open for writing when its writer was frozen or killed: a copy may be half of what it was to be."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import PurePath
from typing import Final

from tasks.collectors.tree import select_written
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.artifact import is_log
from tasks.custody.incident.log import CustodyLog
from tasks.evidence.model_served import find_looks
from tasks.incident.paths import IncidentDirectory

BEING_WRITTEN: Final = "it was being written when its writer was frozen or killed 書き込み途中で凍結または強制終了"


def find_being_written(directory: IncidentDirectory, log: CustodyLog, volume: int) -> Callable[[StoredFile], bool]:
    """Return what says whether a process had a file open for writing; a log is of use at any length.

    Looks at frozen processes count, of volumes to this one, and what the log says of killed ones and of containers. A
    file is known by its path, or by its name and inode: in a container it has another path.
    """
    looks = find_looks(directory, log, range(1, volume + 1))
    killed = (entry.get("writing") for entry in log.entries() if entry["action"] == "stopped")
    opened = {*_names_of(chain((row.get("open_files") for look in looks for row in look), killed))}
    return lambda file: bool(opened) and not (is_log(file.stored) or opened.isdisjoint(_names(directory.root, file)))


def _names_of(rows: Iterable[object]) -> Iterator[str]:
    for each in (each for row in rows for each in select_written(row)):
        yield each["to"]
        yield f"{each.get('inode')}:{os.path.basename(each['to'])}"  # noqa: PTH119  a name of any bytes


def _names(root: PurePath, file: StoredFile) -> Iterable[str]:
    """Return how a file may be named there; nothing for what no process had, as the output of a command."""
    if not file.source:
        return ()
    path = os.path.join(root, file.path)  # noqa: PTH118  as above
    names = [path, os.path.realpath(path)]
    with suppress(OSError, ValueError):
        names.append(f"{os.stat(path).st_ino}:{os.path.basename(path)}")  # noqa: PTH116, PTH119  as above
    return names
