"""Write below a folder that others can write to. Follows no link, and never shows partial or wrong content."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Mismatch(Exception):
    """The content has another digest than promised; nothing was written."""


@dataclass(frozen=True)
class Local:
    """A local name: the digest of a regular file (empty for other types), and its modification time."""

    sha256: str
    modified: datetime


def local(root: Path, name: str) -> Local | None:
    """Return what has this name; None if nothing. Raises OSError if a link or file blocks the path."""
    try:
        with _parent(root, name, make=False) as (folder, last):
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
            return Local(_digest(folder, last, found), datetime.fromtimestamp(found.st_mtime, UTC))
    except FileNotFoundError:
        return None


def _digest(folder: int, last: str, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return ""
    with os.fdopen(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def land(root: Path, name: str, pieces: Iterable[bytes], expected: str, modified: datetime | None) -> None:
    """Write a temporary file, and rename it if its digest is as expected. Raises Mismatch otherwise."""
    with _parent(root, name, make=True) as (folder, last):
        beside = f".pull-{token_hex(8)}"
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as target:
                seen = sha256()
                for piece in pieces:
                    seen.update(piece)
                    target.write(piece)
                if seen.hexdigest() != expected:
                    raise Mismatch(f"expected sha256 {expected}, what came has {seen.hexdigest()}")
                target.flush()
                if modified:
                    os.utime(file, (modified.timestamp(), modified.timestamp()))
                os.fsync(file)
            os.replace(beside, last, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)


@contextmanager
def _parent(root: Path, name: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """Open the folder of a name, segment by segment from the root."""
    *folders, last = name.split("/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=place)
            inner = os.open(folder, _FOLDER, dir_fd=place)
            os.close(place)
            place = inner
        yield place, last
    finally:
        os.close(place)
