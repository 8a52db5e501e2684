"""Keep a file as room for what must be written on a full disk (log, journals, manifest), given back bit by bit."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

MIB: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

T = TypeVar("T")


def full(error: OSError) -> bool:
    """Whether it is room that was missing, and nothing else."""
    return error.errno in _FULL


def take(path: Path, size: int) -> bool:
    """Fill so much of the disk, really and not as a hole; False, and nothing taken, where there is no room for it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        if size > os.fstat(descriptor).st_size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError:
        path.unlink()
        return False
    finally:
        os.close(descriptor)
    return True


def give(path: Path, size: int) -> bool:
    """Give back at least so much, in whole MiB; False where nothing is left to give."""
    try:
        left = path.stat(follow_symlinks=False).st_size
        if left:
            os.truncate(path, max(0, left - max(1, -(-size // MIB)) * MIB))
    except OSError:
        return False
    return bool(left)


def give_all(path: Path) -> None:
    """Give back what is left. Without a reserve this does nothing."""
    path.unlink(missing_ok=True)


def with_reserve(path: Path, size: int, write: Callable[[], T]) -> T:
    """Write; where the disk is full give back a part of the reserve and write again, as long as there is one."""
    while True:
        try:
            return write()
        except OSError as error:
            if not full(error) or not give(path, size):
                raise
