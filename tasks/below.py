"""Files below a root that others write to: no link is followed out of it, and nothing but a regular file is read."""

import errno
import os
import stat
from pathlib import Path


def real_name(root: bytes, name: bytes) -> bytes | None:
    """The name below the root that a name really leads to, over links within the root; None if it leads out."""
    real = os.path.relpath(os.path.realpath(os.path.join(root, name)), os.path.realpath(root))
    return None if real == b".." or real.startswith(b"../") else real


def open_below(root: bytes, name: bytes) -> int:
    """Open a file without following a link in any of its segments. Never waits: a pipe opens without its writer."""
    *folders, last = name.split(b"/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)


def real_file(root: bytes, name: bytes) -> Path:
    """The path of a regular file below the root. FileNotFoundError if it is gone, something else, or leads out."""
    real = real_name(root, name)
    path = os.path.join(os.path.realpath(root), real or b"")
    if real is None or not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileNotFoundError(errno.ENOENT, "no regular file of the workload any more", os.fsdecode(name))
    return Path(os.fsdecode(path))
