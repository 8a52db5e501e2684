"""Read a secret that lies in a file of this host."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

_LIMIT: Final = 1 << 16


def read_secret(path: Path) -> str:
    """Read a plain file that nobody but root and this account can read or change. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o077:
            return file.read(_LIMIT)
    raise PermissionError(errno.EPERM, "a file that is not root's or this account's with mode 0600", str(path))
