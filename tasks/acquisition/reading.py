"""Read a file of the workload for a summary, without following a link, waiting for a pipe, or exceeding a limit."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasks.system.files.open_beneath import open_regular_at, real_name

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK: Final = 1 << 20


@contextmanager
def open_regular(root: Path, name: str) -> Iterator[int]:
    """Open a regular file below the root without following a link in any part of its name."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in Path(name).parts:
            inner = os.open(part, _FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(f"{name} is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_below(root: Path, name: str, most: int) -> bytes:
    """Return the first `most` bytes of a file below the root."""
    with open_regular(root, name) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(most)


def read_inside(root: Path, path: Path, most: int) -> bytes:
    """Return the first `most` bytes of a path whose parts may be links, if it stays inside the root.

    Raises PermissionError if it leads out: the workload may have no right to read what we may read.
    """
    inside = inside_of(root, path)
    if inside is None:
        raise PermissionError(errno.EACCES, "it leads out of the workload", str(path))
    return read_below(Path(os.path.realpath(root)), inside, most)


def inside_of(root: Path, path: Path) -> str | None:
    """Return where below the root a path really leads; None if it leads out."""
    name = real_name(os.fsencode(root), os.fsencode(path))
    return None if name is None else os.fsdecode(name)


def read_end(root: Path, name: str, most: int) -> bytes:
    """Return the last `most` bytes of a file below the root."""
    with open_regular(root, name) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(max(0, os.fstat(descriptor).st_size - most))
        return file.read(most)


def digest_in_time(descriptor: int, until: float) -> str | None:
    """Return the SHA-256 of an open file in hex; None if it is not finished in time."""
    sha = hashlib.sha256()
    while time.monotonic() < until:
        if not (block := os.read(descriptor, _BLOCK)):
            return sha.hexdigest()
        sha.update(block)
    return None


def digest_of(path: Path, until: float) -> str | None:
    """Return the SHA-256 of a path that may be a link; None also if it is no regular file or unreadable."""
    with suppress(OSError):
        descriptor = open_regular_at(path, follow=True)
        try:
            return digest_in_time(descriptor, until)
        finally:
            os.close(descriptor)
    return None
