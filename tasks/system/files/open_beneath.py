"""Open files below a root that others can write to. Follows no link out of it, and reads regular files only."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NoFile(OSError):
    """The name is no regular file: a FIFO, a socket, a device or a folder."""

    def __init__(self) -> None:
        """Set the message."""
        super().__init__(errno.EINVAL, "not a regular file: a pipe, a socket or a device")


def real_name(root: bytes, name: bytes) -> bytes | None:
    """Return the name below the root that a name resolves to; None if it leads out of the root.

    Raises OSError for a loop of links.
    """
    if not _may_lead_elsewhere(root, name):
        return os.path.normpath(name)
    try:
        real = os.path.relpath(os.path.realpath(os.path.join(root, name)), os.path.realpath(root))
    except RecursionError:
        raise OSError(errno.ELOOP, "a chain of links without end", os.fsdecode(name)) from None
    return None if real == b".." or real.startswith(b"../") else real


def _may_lead_elsewhere(root: bytes, name: bytes) -> bool:
    """Return whether the name needs a full resolution, which costs ten times as much as this check."""
    place, parts = root, name.split(b"/")
    if name.startswith(b"/") or b".." in parts:
        return True
    for part in parts:
        place = os.path.join(place, part)
        if os.path.islink(place):
            return True
    return False


def open_below(root: bytes, name: bytes) -> int:
    """Open a regular file without following links in any segment. Raises NoFile for other types.

    Its type is checked before it is opened: opening a FIFO unblocks its writer, and opening some devices has effects.
    """
    with opened_parent(root, os.fsdecode(name)) as (folder, last):
        return open_regular_at(last, folder)


def open_regular_at(name: str | Path, folder: int | None = None, *, follow: bool = False) -> int:
    """Open a regular file. Raises NoFile for other types, which are not opened, and OSError for a link.

    With `follow` a link is followed.
    """
    with pin_file(name, folder, follow=follow) as pin:
        mode = os.fstat(pin).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not stat.S_ISREG(mode):
            raise NoFile
        return os.open(f"/proc/self/fd/{pin}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@contextmanager
def pin_file(name: str | Path, folder: int | None = None, *, follow: bool = False) -> Iterator[int]:
    """Yield a descriptor (O_PATH) of what a name leads to, which is not touched by that.

    Nobody exchanges it any more: what is judged by the descriptor is what is opened by /proc/self/fd.
    """
    pin = os.open(name, os.O_PATH | (0 if follow else os.O_NOFOLLOW) | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield pin
    finally:
        os.close(pin)


@contextmanager
def opened_parent(root: bytes | Path, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Open the folder of a name, segment by segment from the root, and yield it with the last segment."""
    *folders, last = name.split("/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=place)
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        yield place, last
    finally:
        os.close(place)


@contextmanager
def folder_below(root: bytes, name: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Open a folder, also over links, and yield it with its real name below the root; None if it is outside.

    The kernel tells the name of the opened folder, so changing a link meanwhile has no effect.
    """
    folder = os.open(os.path.join(root, name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        real = os.path.relpath(os.readlink(b"/proc/self/fd/%d" % folder), os.path.realpath(root))
        yield folder, None if real == b".." or real.startswith(b"../") else real
    finally:
        os.close(folder)


def real_file(root: bytes, name: bytes) -> Path:
    """Return the path of a regular file below the root. Raises FileNotFoundError for anything else."""
    real = real_name(root, name)
    path = os.path.join(os.path.realpath(root), real or b"")
    if real is None or not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileNotFoundError(errno.ENOENT, "no regular file of the workload any more", os.fsdecode(name))
    return Path(os.fsdecode(path))
