"""§4: find what a process had open for writing when it was frozen: its copy may be half of what it was to be."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Final

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.artifact import is_log
from tasks.custody.incident.log import CustodyLog
from tasks.evidence.model_served import find_looks
from tasks.incident.paths import IncidentDirectory

BEING_WRITTEN: Final = "it was being written when its writer was frozen 書き込み途中で凍結"


def find_being_written(directory: IncidentDirectory, log: CustodyLog, volume: int) -> Callable[[StoredFile], bool]:
    """Return what says whether a frozen process had a file open for writing; a log is of use at any length.

    Volumes to this one count. A file is known by its path, or by its name and inode: in a container it has another
    path.
    """
    looks = find_looks(directory, log, range(1, volume + 1))
    opened = {*_opened_for_writing(row.get("open_files") for look in looks for row in look)}
    return lambda file: bool(opened) and not (is_log(file.stored) or opened.isdisjoint(_names(directory.root, file)))


def _opened_for_writing(rows: Iterable[object]) -> Iterator[str]:
    for each in (each for row in rows if isinstance(row, list) for each in row if each.get("flags")):
        if int(each["flags"], 8) & os.O_ACCMODE and each["to"].startswith("/"):
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
