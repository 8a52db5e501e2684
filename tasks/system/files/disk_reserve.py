"""Reserve disk space in a file for what must be written on a full disk (log, journals, manifest)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

MIB: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

T = TypeVar("T")


def full(error: OSError) -> bool:
    """Return whether the error means that the disk or quota is full."""
    return error.errno in _FULL


def take(path: Path, size: int) -> bool:
    """Allocate `size` bytes, not as a hole. Returns False, and allocates nothing, if there is no room."""
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
    """Release at least `size` bytes, in whole MiB. Returns False if nothing is left."""
    try:
        available = path.stat(follow_symlinks=False).st_size
        if available:
            os.truncate(path, max(0, available - max(1, -(-size // MIB)) * MIB))
    except OSError:
        return False
    return bool(available)


def give_all(path: Path) -> None:
    """Release all that is left, if anything."""
    path.unlink(missing_ok=True)


def with_reserve(path: Path, size: int, write: Callable[[], T]) -> T:
    """Call `write`; on a full disk release a part of the reserve and retry, while there is any."""
    while True:
        try:
            return write()
        except OSError as error:
            if not full(error) or not give(path, size):
                raise
