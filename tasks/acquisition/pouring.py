"""Read open files in blocks, never past the size that they had. Holes are known, so that a copy can have them too."""

import errno
import fcntl
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from tasks.custody.evidence.one_pass import BLOCK

_FICLONE: Final = 0x40049409


class Endless(Exception):
    """Raised if a file without a size, as in /proc, yields more than may be stored."""


class Hole(bytes):
    """Zeros that the file does not store, and its copy need not."""

    __slots__ = ()


def clone(source: int, out: int, size: int) -> None:
    """Share the blocks of the first `size` bytes with `out` (XFS, btrfs). Raises OSError if that is not possible."""
    fcntl.ioctl(out, _FICLONE, source)
    os.truncate(out, min(size, os.fstat(out).st_size))


def blocks(source: int, size: int, limit: int) -> Iterator[bytes]:
    """Yield the first `size` bytes, even if the file grows. A file without a size is read to its end.

    Raises Endless, and OSError as the disk reports it.
    """
    for start, end, hole in _stretches(source, size) if size else ():
        at = start
        while at < end:
            if not (block := os.pread(source, min(BLOCK, end - at), at)):
                return
            yield Hole(block) if hole and not block.strip(b"\0") else block
            at += len(block)
    if not size:
        yield from _all_of(source, limit)


def _stretches(source: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of each piece of a file, and whether it was a hole when it was looked for."""
    last = 0
    for start, end in extents(source, size):
        yield last, start, True
        yield start, end, False
        last = end
    yield last, size, True


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


def write(out: BinaryIO, block: bytes) -> None:
    """Append a block; a hole stays one. At the end the file has to be truncated where it is, for a hole at its end."""
    if isinstance(block, Hole):
        out.seek(len(block), os.SEEK_CUR)
    else:
        out.write(block)


def _all_of(source: int, limit: int) -> Iterator[bytes]:
    at = 0
    while block := os.pread(source, BLOCK, at):
        at += len(block)
        if at > limit:
            raise Endless
        yield block
