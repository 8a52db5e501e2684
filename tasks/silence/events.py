"""Hear from the kernel what changes below a folder, and which process changes it: fanotify, Linux 5.9, as root."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.host.process.places import id_of, mounts_of
from tasks.host.process.table import read_process, start_of
from tasks.host.silence import is_below

_INIT: Final = 0x1 | 0x2 | 0x10 | 0xC00  # CLOEXEC, NONBLOCK, UNLIMITED_QUEUE, REPORT_DIR_FID and _NAME
_MARK: Final = 0x1 | 0x100  # ADD, FILESYSTEM
_CHANGES: Final = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200  # MODIFY, CLOSE_WRITE, MOVED_FROM and _TO, CREATE, DELETE
_ATTRIBUTES: Final = 0x4  # ATTRIB, as by utimensat(2)
_FOLDERS: Final = 0x40000000
OVERFLOW: Final = 0x4000
_FILE: Final = 1
_FOLDER_AND_NAME: Final = 2
_BLOCK: Final = 1 << 18
_MOST: Final = 5000
_DEEPEST: Final = 8192
_UNSPELT: Final = "(a path of more than 4095 bytes)"
_REMEMBERED: Final = 10_000
_HERE: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Events:
    """What was changed since `arm`, once for each process and file. `lost` says why that is not all.

    Who changed attributes alone is told beside it, as far as there is room.
    """

    def __init__(self, root: str, ours: list[str], beside: list[str]) -> None:
        """Listen on the file system of the root, and on each mounted below it, without `ours`. OSError if denied.

        Also on those `beside` it, other folders, whose files go by their full paths.
        """
        self.ours, self.lost = frozenset(ours), ""
        self.found: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._touches: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._tops: dict[tuple[int, int], str] = {}
        self._known: dict[tuple[int, bytes], str | None] = {}
        self.groups: dict[int, int] = {}
        points = sorted({mount.point for mount in mounts_of("self").values() if mount.point.startswith(f"{root}/")})
        below = {point: os.path.relpath(point, root) for point in points if Path(point).is_dir()}
        for place, name in ({each: each for each in beside} | {root: "."} | below).items():
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            self._tops[id_of(folder)] = name
            group = call("fanotify_init", _INIT, os.O_RDONLY)
            call("fanotify_mark", group, _MARK, ctypes.c_uint64(_CHANGES | _ATTRIBUTES | _FOLDERS), folder, None)
            self.groups[group] = folder

    def arm(self) -> list[dict[str, Any]]:
        """Return what was heard until now, and forget it."""
        earlier = self.changes()
        self.found.clear()
        self._touches.clear()
        return earlier

    def changes(self) -> list[dict[str, Any]]:
        """Return what was heard since `arm`."""
        self.take()
        touches = ({**row, "is_touch": True} for row in self._touches.values())
        return [*self.found.values(), *touches]

    def take(self) -> None:
        """Take in what the kernel has queued. A process may be gone a moment later, so it is looked up at once."""
        for group, folder in self.groups.items():
            with suppress(BlockingIOError):
                while block := os.read(group, _BLOCK):
                    for mask, pid, handle, name in parse_events(block):
                        self._note(folder, mask, pid, handle, name)

    def _note(self, folder: int, mask: int, pid: int, handle: bytes, name: str) -> None:
        if mask & OVERFLOW:
            self.lost = "the kernel's queue overflowed"
            return
        is_touch, lost = not mask & _CHANGES, self.lost
        if (mask & _FOLDERS and not is_touch) or len(self._known) > _REMEMBERED:
            self._known.clear()  # a folder may have another name now
        if (folder, handle) not in self._known:
            found = self._place(folder, handle)
            if is_touch and self.lost != lost:  # nothing that counts
                self.lost = lost
                return
            self._known[folder, handle] = found
        place = self._known[folder, handle]
        if place is None or is_below(file := os.path.normpath(f"{place}/{name}"), self.ours):
            return
        key = pid, _start(pid), file
        rows = self._touches if is_touch else self.found
        if key not in rows and len(rows) >= _MOST:
            self.lost = self.lost if is_touch else f"there were more than {_MOST} changes"
            return
        row = rows.setdefault(key, {"file": file, "pid": pid})
        row["at"] = datetime.now(UTC).isoformat()
        if "lineage" not in row:
            row["lineage"] = _lineage(pid)

    def _place(self, folder: int, handle: bytes) -> str | None:
        """Return the path below the root of the folder with this handle; None if it is not below, or gone.

        By device and inode of the folder and its parents: a process may see the root at any other path, or at none.
        A folder that is gone was removed from another, and so on up to one that is there, which tells of it.
        """
        try:
            here = call("open_by_handle_at", folder, handle, _HERE)
        except OSError as error:
            if error.errno != errno.ESTALE:
                self.lost = f"the folder of a change cannot be found: {error}"
            return None
        names = _names(here)
        try:
            for depth in range(_DEEPEST):
                if (top := self._tops.get(id_of(here))) is not None:
                    return "/".join([top, *(names[len(names) - depth :] if names else [_UNSPELT])])
                below, here = here, os.open("..", _HERE, dir_fd=here)
                was = id_of(below)
                os.close(below)
                if was == id_of(here):
                    return None
        finally:
            os.close(here)
        self.lost = f"the folder of a change lies more than {_DEEPEST} folders deep"
        return None


def _names(folder: int) -> list[str]:
    """Return the names on the way to an open folder; none if they are more than the kernel spells, 4095 bytes."""
    with suppress(OSError):
        path = os.fsencode(Path(f"/proc/self/fd/{folder}").readlink())
        return path.decode(errors="backslashreplace").split("/")
    return []


def parse_events(block: bytes) -> Iterator[tuple[int, int, bytes, str]]:
    """Yield mask, pid, handle and name of each event: of a file, or of its folder with its name (fanotify(7)).

    No handle stands for what the kernel does not tell.
    """
    at = 0
    while at < len(block):
        length, _, _, head, mask, _, pid = struct.unpack_from("=IBBHQii", block, at)
        kind, _, size = struct.unpack_from("=BBH", block, at + head) if length > head else (0, 0, 0)
        handle, name, start = b"", b"", at + head + 12
        if kind in {_FILE, _FOLDER_AND_NAME}:
            end = start + 8 + int(struct.unpack_from("=I", block, start)[0])
            handle = block[start:end]
            name = block[end : at + head + size].split(b"\0")[0] if kind == _FOLDER_AND_NAME else b""
        yield mask, pid, handle, name.decode(errors="backslashreplace")
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


def call(name: str, *arguments: Any) -> int:
    """Call a function of the C library. Raises OSError if it returns a negative number."""
    if (result := int(getattr(_LIBC, name)(*arguments))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
