"""Copy bytes between open files: shared where the file system can, holes kept, never past the size it had."""

import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from tasks.system.disk_reserve import full

_FICLONE: Final = 0x40049409
_CHUNK: Final = 1 << 30
_BLOCK: Final = 1 << 20


class Endless(Exception):
    """Raised if a file without a size, as in /proc, yields more than may be stored."""


def clone(source: int, out: int, size: int) -> None:
    """Share the blocks of the first `size` bytes with `out` (XFS, btrfs). Raises OSError if that is not possible."""
    fcntl.ioctl(out, _FICLONE, source)
    os.truncate(out, min(size, os.fstat(out).st_size))


def pour(source: int, out: int, size: int, limit: int) -> None:
    """Copy the first `size` bytes, even if the file grows. A file without a size is read to its end.

    Raises Endless, and OSError as the disks report it.
    """
    if not size:
        _read_all(source, out, limit)
        return
    for start, end in extents(source, size):
        _copy(source, out, start, end)
    os.ftruncate(out, min(size, max(os.fstat(source).st_size, os.fstat(out).st_size)))


def extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each piece with data, without holes; the whole file if the file system keeps no holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno != errno.ENXIO:
                yield at, size
            return
        if start < end:
            yield start, end
        at = max(end, start)


def _copy(source: int, out: int, at: int, end: int) -> None:
    """Copy in the kernel if it can: it cannot between some file systems, or from some special files."""
    try:
        while at < end and (copied := os.copy_file_range(source, out, min(_CHUNK, end - at), at, at)):
            at += copied
    except OSError as error:
        if full(error):
            raise
    while at < end and (block := os.pread(source, min(_BLOCK, end - at), at)):
        at += os.pwrite(out, block, at)


def _read_all(source: int, out: int, limit: int) -> None:
    at = 0
    while block := os.pread(source, _BLOCK, at):
        if at + len(block) > limit:
            raise Endless
        at += os.pwrite(out, block, at)
