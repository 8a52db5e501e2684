"""Hear from the kernel what changes below a folder, and which process changes it: fanotify, Linux 5.9, as root."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.custody.containment.silence import is_below
from tasks.system.processes import read_process, start_of, variable_of

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE, _DIR_AND_NAME = 0x1, 0x2, 0x10, 0xC00
_ADD, _FILESYSTEM = 0x1, 0x100
_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_FOLDERS, _OVERFLOW = 0x40000000, 0x4000
_HEARD: Final = _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _FOLDERS
_HEAD: Final = struct.Struct("=IBBHQii")
_NAMED: Final = 2
_HANDLE: Final = 12
"""Where the folder's handle begins in an event's record: after its type, its length and the file system's id."""
_BLOCK: Final = 1 << 18
_REMEMBERED: Final = 10_000
_MOST: Final = 5000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
Id = tuple[int, int]


class Events:
    """What was changed since `arm`, once for each process and file, with the last time. Raises OSError if denied.

    `mark` is a variable of the environment that is read of each process.
    """

    def __init__(self, root: str, ours: Iterable[str], mark: str) -> None:
        """Listen on the file system of the root, and on each that is mounted below it. `ours` are left out."""
        self.ours, self.mark, self.lost = frozenset(ours), mark, ""
        self.found: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._tops: dict[Id, str] = {}
        self._groups: dict[int, int] = {}
        self._known: dict[tuple[int, bytes], str | None] = {}
        for place in (root, *_mounted_below(root)):
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            self._tops[_id_of(folder)] = os.path.relpath(place, root)
            group = _called("fanotify_init", _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE | _DIR_AND_NAME, os.O_RDONLY)
            _called("fanotify_mark", group, _ADD | _FILESYSTEM, ctypes.c_uint64(_HEARD), folder, None)
            self._groups[group] = folder

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when something changes."""
        return list(self._groups)

    def arm(self) -> None:
        """Forget what was heard until now."""
        self.take()
        self.found.clear()

    def changes(self) -> list[dict[str, Any]]:
        """Return what was heard since `arm`."""
        self.take()
        return list(self.found.values())

    def take(self) -> None:
        """Take in what the kernel has queued. A process may be gone a moment later, so it is looked up at once."""
        for group, folder in self._groups.items():
            with suppress(BlockingIOError):
                while block := os.read(group, _BLOCK):
                    for mask, pid, handle, name in _parsed(block):
                        self._note(folder, mask, pid, handle, name)

    def _note(self, folder: int, mask: int, pid: int, handle: bytes, name: str) -> None:
        if mask & _OVERFLOW:
            self.lost = "the kernel's queue overflowed"
            return
        if mask & _FOLDERS:
            self._known.clear()  # a folder may have another name now
        if (folder, handle) not in self._known:
            self._known = self._known if len(self._known) < _REMEMBERED else {}
            self._known[folder, handle] = self._place(folder, handle)
        if (place := self._known[folder, handle]) is None or is_below(
            file := os.path.normpath(f"{place}/{name}"), self.ours
        ):
            return
        who = pid, _start(pid), file
        if who not in self.found and len(self.found) >= _MOST:
            self.lost = f"more than {_MOST} changes"
            return
        if who not in self.found:
            self.found[who] = {"file": file, "pid": pid, "lineage": _lineage(pid), "mark": variable_of(pid, self.mark)}
        self.found[who]["at"] = datetime.now(UTC).isoformat()

    def _place(self, folder: int, handle: bytes) -> str | None:
        """Return the path below the root of the folder with this handle; None if it is not below, or gone.

        By device and inode of the folder and its parents: a process may see the root at any other path, or at none.
        A folder that is gone was removed from another, and so on up to one that is there, which tells of it.
        """
        try:
            here = _called("open_by_handle_at", folder, handle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ESTALE:
                self.lost = f"the folder of a change cannot be found: {error}"
            return None
        names = os.fsencode(Path(f"/proc/self/fd/{here}").readlink()).decode(errors="backslashreplace").split("/")
        try:
            for depth in range(len(names)):
                if (top := self._tops.get(_id_of(here))) is not None:
                    return "/".join([top, *names[len(names) - depth :]])
                above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = above
        finally:
            os.close(here)
        return None


def _parsed(block: bytes) -> Iterator[tuple[int, int, bytes, str]]:
    """Yield mask, pid, the folder's handle and the file's name of each event (fanotify(7))."""
    at = 0
    while at < len(block):
        length, _, _, head, mask, _, pid = _HEAD.unpack_from(block, at)
        handle, name, record = b"", "", at + head
        while record < at + length:
            kind, _, size = struct.unpack_from("=BBH", block, record)
            if kind == _NAMED:
                start = record + _HANDLE
                end = start + 8 + struct.unpack_from("=I", block, start)[0]
                handle, name = (
                    block[start:end],
                    block[end : record + size].split(b"\0")[0].decode(errors="backslashreplace"),
                )
            record += size
        yield mask, pid, handle, name
        at += length


def _lineage(pid: int) -> list[dict[str, Any]]:
    """Return a process and its ancestors, as they are now; none if it is gone, or in a pid namespace apart."""
    found = dict[int, dict[str, Any]]()
    while pid and pid not in found and (process := read_process(pid)):
        found[pid] = asdict(process) | {"ports": []}
        pid = process.parent
    return list(found.values())


def _start(pid: int) -> int:
    with suppress(ProcessLookupError):
        return start_of(pid) if pid else 0
    return 0


def _mounted_below(root: str) -> list[str]:
    """Return the mount points below a folder."""
    places = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    plain = (place.encode().decode("unicode_escape") for place in places)
    return sorted({place for place in plain if place.startswith(f"{root}/") and Path(place).is_dir()})


def _id_of(descriptor: int) -> Id:
    about = os.fstat(descriptor)
    return about.st_dev, about.st_ino


def _called(name: str, *arguments: Any) -> int:
    """Call a function of the C library. Raises OSError if it fails."""
    if (made := int(getattr(_LIBC, name)(*arguments))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return made
