"""Read the kernel's tables. Their lines end at a newline alone: names in them hold whatever else ends a line."""

import os
import re
from collections.abc import Callable
from errno import EFBIG
from pathlib import Path
from typing import Final

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_BLOCK: Final = 1 << 16
_SMALL: Final = 1 << 12
LARGEST: Final = 1 << 25
"""Bytes of the largest table that is read."""
ENVIRONMENT: Final = 1 << 18
"""Bytes that are read of a process's environment."""


def read_table(path: str | Path, check: Callable[[], object] | None = None) -> str:
    """Return a table as the kernel wrote it, to be split at newlines alone.

    OSError if it is not readable, or larger than 32 MiB: a part would be taken for all. `check` is called after each
    block, and may raise.
    """
    if len(text := read_kernel(str(path), LARGEST + 1, check)) > LARGEST:
        raise OSError(EFBIG, os.strerror(EFBIG), str(path))
    return os.fsdecode(text)


def read_kernel(path: str, limit: int, check: Callable[[], object] | None = None) -> bytes:
    """Read at most `limit` bytes of a file of /proc, in the fewest system calls: a guard reads all of them for days.

    A process decides how much of its memory is its command line (prctl(2), PR_SET_MM): it may be all that it can map.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts, block = [], _SMALL if check else _BLOCK
        while limit > 0 and (part := os.read(descriptor, min(limit, block))):
            parts.append(part)
            limit -= len(part)
            if check:
                check()
        return b"".join(parts)
    finally:
        os.close(descriptor)


def unescape(name: str) -> str:
    r"""Return a name of mountinfo, where the kernel writes space, tab, newline and backslash as \ooo (proc(5))."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), name)
