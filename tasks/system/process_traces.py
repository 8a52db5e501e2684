"""Read open and mapped files of processes from /proc. Too slow for a freeze, so done after it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_IWUSR
from typing import Final

from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.traces import FileId, Traces
from tasks.system.processes import place_of, start_of

_DELETED: Final = " (deleted)"
_WORDS: Final = 6
_MODE, _PATH = 1, 5


def read_traces(processes: Iterable[Process]) -> dict[Identity, Traces]:
    """Return the traces of those processes that still exist, `denied` for unreadable ones."""
    found = {}
    for process in processes:
        with suppress(ProcessLookupError):
            traces = _read(f"/proc/{place_of(process.pid)}")
            if start_of(process.pid) == process.identity.start:
                found[process.identity] = traces
    return found


def file_id(path: str | Path) -> FileId | None:
    """Return device and inode of the file that a path leads to; None if there is none, or it is not readable."""
    with suppress(OSError):
        about = os.stat(path)
        return about.st_dev, about.st_ino
    return None


def _read(where: str) -> Traces:
    try:
        files = dict(_files(f"{where}/fd"))
        lines = [line.split(maxsplit=_PATH) for line in Path(f"{where}/maps").read_text(errors="replace").splitlines()]
    except PermissionError:
        return Traces(denied=True)
    except OSError:
        return Traces()
    maps = [(line[_MODE], line[_PATH].removesuffix(_DELETED)) for line in lines if len(line) == _WORDS]
    shared = {path for mode, path in maps if "w" in mode and "s" in mode}
    return Traces(
        program=file_id(f"{where}/exe"),
        code=frozenset(path for mode, path in maps if "x" in mode),
        read=frozenset(path for path, written in files.items() if not written),
        written=frozenset(path for path, written in files.items() if written) | shared,
    )


def _files(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield open files, and whether each is writable: the mode of the link in /proc shows it (proc(5))."""
    for name in os.listdir(folder):
        with suppress(FileNotFoundError, ProcessLookupError):
            path = os.readlink(f"{folder}/{name}")
            if path.startswith("/"):
                mode = os.lstat(f"{folder}/{name}").st_mode
                yield path.removesuffix(_DELETED), bool(mode & S_IWUSR)
