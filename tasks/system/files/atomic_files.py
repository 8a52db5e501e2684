"""Write markers and other files atomically, and read files that others may have replaced."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from tasks.custody.containment.identity import Identity
from tasks.system.files.ours import opened_folder

HALF_WRITTEN: Final = re.compile(rb"\.([^/]+)\.[0-9a-f]{16}\.new\Z")
"""The end of the path of what is being written, and in it the name that it will have."""
_LIMIT: Final = 1 << 26
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_marker(marker: Path, fields: Mapping[str, Any]) -> None:
    """Write a marker atomically. It survives a power loss only after `sync_folder`, which is the caller's choice.

    A guard that its marker names has to queue for the lock at once, and cannot wait for a disk.
    """
    with _beside(marker, os.replace) as file:
        file.write((json.dumps(fields, indent=2, sort_keys=True) + "\n").encode())
        _flush(file)
        os.fchmod(file.fileno(), 0o644)


def write_whole(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666, *, flush: bool = True) -> None:
    """Write a file atomically, also through a power loss. On a full disk nothing of it stays.

    Without `flush` it does not wait for the disk, and a power loss may lose the file.
    """
    with _beside(path, os.replace, mode) as file:
        file.writelines([data] if isinstance(data, bytes) else data)
        if flush:
            _flush(file)
    if flush:
        sync_folder(path.parent)


def write_once(path: Path, data: bytes) -> None:
    """Write a private file atomically, and never over another of its name."""
    with suppress(FileExistsError), _beside(path, os.link, 0o600) as file:
        file.write(data)
        _flush(file)


@contextmanager
def _beside(path: Path, take_name: Callable[..., None], mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a new file whose name nobody can guess, in the folder of the path; at the end it takes the path's name."""
    beside = f".{path.name}.{os.urandom(8).hex()}.new"
    with opened_folder(path.parent) as folder:
        try:
            with os.fdopen(os.open(beside, _NEW, mode, dir_fd=folder), "wb") as file:
                yield file
            take_name(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a power loss does not restore the old file of a name. Ignores errors."""
    with suppress(OSError):
        sync(folder)


def sync(path: Path) -> None:
    """Flush one file or folder to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_marker(marker: Path) -> dict[str, Any]:
    """Return the content of a marker; empty if it is missing, invalid, or may have been written by others."""
    try:
        content = json.loads(read_ours(marker))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_plain(path: Path) -> bytes:
    """Read a regular file from a directory that the workload can write to.

    Does not follow a link of others, or block on a FIFO. Raises OSError for them.
    """
    return _read(_open(path), path)


def _open(path: Path) -> int:
    with opened_folder(path.parent) as folder:
        return os.open(path.name, _READ, dir_fd=folder)


def _read(descriptor: int, path: Path) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read(_LIMIT)


def read_ours(path: Path) -> bytes:
    """Read a file that decides which processes get a signal.

    Raises PermissionError if others than we and root may have written it. The owner of a folder above can remove or
    move such a file, but not change its content.
    """
    descriptor = _open(path)
    status = os.fstat(descriptor)
    if status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o022:
        return _read(descriptor, path)
    os.close(descriptor)
    raise PermissionError(errno.EPERM, f"user {status.st_uid} or others may have written it", str(path))


def why_not_ours(path: Path) -> str:
    """Return why `read_ours` does not read a file; empty if it does, or if the file is missing."""
    try:
        read_ours(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def read_private(path: Path) -> bytes:
    """Read a file in an incident's folder. Raises PermissionError if others own the folder or may write to it."""
    with opened_folder(path.parent) as folder:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            why = "it lies in a folder that is not ours, or that others may write to"
            raise PermissionError(errno.EPERM, why, str(path))
        return _read(os.open(path.name, _READ, dir_fd=folder), path)


def rows_of(path: Path, read: Callable[[Path], bytes]) -> list[dict[str, Any]]:
    """Read a JSON list of objects with `read`. Empty if it is missing, damaged or not trusted."""
    try:
        rows = json.loads(read(path))
    except (OSError, ValueError, RecursionError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def identities(journals: Iterable[Path | str]) -> set[Identity]:
    """Return the processes that these journals name, each in an incident's folder."""
    rows = (row for journal in journals for row in rows_of(Path(journal), read_private))
    return {identity for row in rows if (identity := Identity.of(row))}


def caught_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a guard's journal. A line torn by a full disk is skipped."""
    with suppress(OSError):
        for line in read_ours(path).splitlines():
            with suppress(ValueError, RecursionError):
                if isinstance(entry := json.loads(line), dict):
                    yield entry
