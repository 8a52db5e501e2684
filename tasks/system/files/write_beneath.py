"""Write below a folder that others can write to. Follows no link, and never shows partial or wrong content."""

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex

from tasks.system.files.open_beneath import opened_parent

_ACCESS = re.compile(r"-(?:[r-][w-][xsStT-]){3} \d{1,10}:\d{1,10}")


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
        with opened_parent(root, name) as (folder, last):
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
            return Local(_digest(folder, last, found), datetime.fromtimestamp(found.st_mtime, UTC))
    except FileNotFoundError:
        return None


def _digest(folder: int, last: str, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return ""
    with os.fdopen(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def land(  # noqa: PLR0913, PLR0917  what is to be where
    root: Path, name: str, pieces: Iterable[bytes], expected: str, modified: datetime | None, recorded: str = ""
) -> str:
    """Write a temporary file, and rename it if its digest is as expected. Raises Mismatch otherwise.

    It takes over owner, mode and attributes of a file that it replaces, and else has no more rights than were
    `recorded`, as in "-rw-r--r-- 1000:1000". Returns what of that it lacks; empty if nothing, or nothing is known.
    """
    with opened_parent(root, name, make=True) as (folder, last):
        beside, before = f".pull-{token_hex(8)}", _find_replaced(folder, last)
        most = 0o600 if before else 0o666 & _mode_in(recorded)
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, most, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as target:
                seen = sha256()
                for piece in pieces:
                    seen.update(piece)
                    target.write(piece)
                if seen.hexdigest() != expected:
                    raise Mismatch(f"expected sha256 {expected}, what came has {seen.hexdigest()}")
                target.flush()
                lacks = _keep_rights(file, before, f"/proc/self/fd/{folder}/{last}") if before else ""
                lacks = lacks or _tell_rights(file, recorded, "given")
                if modified:
                    os.utime(file, (modified.timestamp(), modified.timestamp()))
                os.fsync(file)
            os.replace(beside, last, src_dir_fd=folder, dst_dir_fd=folder)
            return lacks
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)


def _find_replaced(folder: int, last: str) -> os.stat_result | None:
    """Return the status of the regular file of this name; None if it is none."""
    with suppress(FileNotFoundError):
        found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _owner_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid


def _keep_rights(file: int, before: os.stat_result, path: str) -> str:
    """Give a file owner, mode and attributes of the one at this path; return what is not given.

    A group that it cannot have passes its rights to no other one.
    """
    owner, group = _owner_of(before)
    for given in ((owner, group), (-1, group)):
        with suppress(OSError):
            os.fchown(file, *given)
            break
    mode = stat.S_IMODE(before.st_mode) & 0o777
    os.fchmod(file, mode if os.fstat(file).st_gid == group else mode & ~stat.S_IRWXG)
    lost = []
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            try:
                os.setxattr(file, name, os.getxattr(path, name, follow_symlinks=False))
            except OSError:
                lost += [] if name == "security.selinux" else [f"attribute {name} not kept"]
    access = f"{stat.filemode(before.st_mode)} {owner}:{group}"
    return "; ".join(filter(None, [_tell_rights(file, access, "kept"), *lost]))


def _tell_rights(file: int, recorded: str, word: str) -> str:
    """Return what a file does not have of the mode and owner that were recorded; empty if nothing was."""
    if not _ACCESS.fullmatch(recorded):
        return ""
    status = os.fstat(file)
    now = stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"
    rows = zip(("mode", "owner"), recorded.split(" "), now, strict=True)
    return "; ".join(f"{what} {was} not {word}: now {is_now}" for what, was, is_now in rows if was != is_now)


def _mode_in(recorded: str) -> int:
    """Return the bits that are set in a mode as a manifest has it; all if none is recorded."""
    if not _ACCESS.fullmatch(recorded):
        return 0o777
    return sum(1 << 8 - place for place, letter in enumerate(recorded[1:10]) if letter not in "-ST")
