"""Open files below a root that others write to. No link is followed out of it; nothing but regular files is read."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoFile(OSError):
    """What has the name is no regular file: a pipe, a socket, a device, a folder."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__(errno.EINVAL, "not a regular file: a pipe, a socket or a device")


def real_name(root: bytes, name: bytes) -> bytes | None:
    """The name below the root that a name really leads to, over links within the root; None if it leads out.

    OSError for links without end.
    """
    if not _may_lead_elsewhere(root, name):
        return os.path.normpath(name)
    try:
        real = os.path.relpath(os.path.realpath(os.path.join(root, name)), os.path.realpath(root))
    except RecursionError:
        raise OSError(errno.ELOOP, "a chain of links without end", os.fsdecode(name)) from None
    return None if real == b".." or real.startswith(b"../") else real


def _may_lead_elsewhere(root: bytes, name: bytes) -> bool:
    """Whether to follow it from the file system's root on, which costs ten times as much as this."""
    place, parts = root, name.split(b"/")
    if name.startswith(b"/") or b".." in parts:
        return True
    for part in parts:
        place = os.path.join(place, part)
        if os.path.islink(place):
            return True
    return False


def open_below(root: bytes, name: bytes) -> int:
    """Open a regular file without following a link in any of its segments. NoFile for anything else.

    That is looked at before it is opened: opening a pipe lets its writer go on, and some devices act on it.
    """
    *folders, last = name.split(b"/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        seen = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    try:
        return _opened(seen)
    finally:
        os.close(seen)


def _opened(seen: int) -> int:
    mode = os.fstat(seen).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(mode):
        raise NoFile
    return os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@contextmanager
def folder_below(root: bytes, name: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Open a folder, over links too, for a look at it; and its real name below the root, None if it lies outside.

    Asked of the kernel after it was opened: whoever turns a link meanwhile turns nothing.
    """
    folder = os.open(os.path.join(root, name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        real = os.path.relpath(os.readlink(b"/proc/self/fd/%d" % folder), os.path.realpath(root))
        yield folder, None if real == b".." or real.startswith(b"../") else real
    finally:
        os.close(folder)


def real_file(root: bytes, name: bytes) -> Path:
    """The path of a regular file below the root. FileNotFoundError if it is gone, something else, or leads out."""
    real = real_name(root, name)
    path = os.path.join(os.path.realpath(root), real or b"")
    if real is None or not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileNotFoundError(errno.ENOENT, "no regular file of the workload any more", os.fsdecode(name))
    return Path(os.fsdecode(path))
