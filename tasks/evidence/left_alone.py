"""Decide by stat whether a file still has the bytes that were hashed, so that it need not be read again.

The kernel alone sets a file's ctime: whoever changes the file, or its times, makes it new. A clock that was set back,
or that of a network disk, may deceive. So this spares a reading, and never stands in for the digest by which a store
accepts a file.
"""

import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.custody.evidence.acquisition import StoredFile

_TICK: Final = 0.02
"""Seconds by which a ctime may be behind the clock."""


def steady(file: StoredFile, size: int, mtime_ns: int) -> bool:
    """Return whether a source is as it was when it was copied, by size and time."""
    return (file.size, file.mtime_ns) == (size, mtime_ns)


def left_alone(path: Path, file: StoredFile, after: float, before: float) -> bool:
    """Return whether a file has its size, and was last touched between two moments, in seconds since the epoch."""
    with suppress(OSError):
        status = path.lstat()
        alone = after < status.st_ctime < before - _TICK
        return alone and stat.S_ISREG(status.st_mode) and status.st_size == file.size
    return False
