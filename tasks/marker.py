"""The cordon's marker: who holds the training lock, since when and why, where people who meet the lock can read it."""

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

_LIMIT: Final = 1 << 26


def write_marker(marker: Path, about: Mapping[str, Any]) -> None:
    """Write it whole or not at all. It survives a loss of power: a guarded training refuses under it."""
    beside = marker.with_name(f".{marker.name}.{os.getpid()}")
    with open_new(beside) as file:
        file.write((json.dumps(about, indent=2, sort_keys=True) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(marker)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also through a loss of power. A disk that fills meanwhile keeps no half."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with open_new(beside) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read_marker(marker: Path) -> dict[str, Any]:
    """What the marker says; nothing where there is none, or one that is no marker."""
    try:
        about = json.loads(read_plain(marker))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def read_plain(path: Path) -> bytes:
    """Read a file where the workload may have put another: a pipe in its place kept the freeze waiting for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read(_LIMIT)


def caught_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What a guard has written down. A line that a full disk has torn takes no other with it."""
    with suppress(OSError):
        for line in read_plain(path).splitlines():
            with suppress(ValueError, RecursionError):
                if isinstance(entry := json.loads(line), dict):
                    yield entry


def open_new(path: Path) -> BinaryIO:
    """Open a new file in the place of whatever lies there: through a link we would overwrite what it leads to."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")
