"""Read the kernel's tables. Their lines end at a newline alone: names in them hold whatever else ends a line."""

import os
import re
from pathlib import Path
from typing import Final

_BLOCK: Final = 1 << 16
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def read_table(path: str | Path) -> str:
    """Return a table as the kernel wrote it, to be split at newlines alone. OSError if it is not readable."""
    return os.fsdecode(read_kernel(str(path)))


def read_kernel(path: str) -> bytes:
    """Read a file of /proc in the fewest system calls: the guard reads all of them several times a second, for days."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, _BLOCK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def unescaped(name: str) -> str:
    r"""Return a name of mountinfo, where the kernel writes space, tab, newline and backslash as \\ooo (proc(5))."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), name)
