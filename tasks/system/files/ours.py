"""Tell whether another account can change what lies at a path, and open folders without obeying its links.

See docs/adr/0041.
"""

import errno
import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasks.system.accounts import account_name

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LINKS: Final = 40
_GROUP, _OTHERS = stat.S_IWGRP, stat.S_IWOTH


def find_exposure(path: Path, *users: int) -> str:
    """Return which place lets another account change or replace this path; empty if it is ours alone.

    Ours is what root or one of `users` owns (this process's account by default), and nobody else may write to, with
    every folder above and every link on the way. In a sticky folder only what is ours already is safe.
    """
    ours = {0, *(users or (os.geteuid(),))}
    names, place, links = [*reversed(path.absolute().parts)], Path("/"), 0
    sticky: Path | None = None
    while names:
        place = Path(os.path.normpath(place / names.pop()))
        try:
            status = place.lstat()
        except FileNotFoundError:
            return f"{sticky}, where anybody may take the name {place.name}" if sticky else ""
        except OSError as error:
            return f"{place}, which cannot be looked at: {error.strerror}"
        if status.st_uid not in ours:
            return f"{place} of user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            if (links := links + 1) > _LINKS:
                return f"{place}, a loop of links"
            names += reversed(place.readlink().parts)
            place = place.parent
            continue
        sticky = place if status.st_mode & stat.S_ISVTX and status.st_mode & (_GROUP | _OTHERS) else None
        if not sticky and _is_shared(status):
            return f"{place} of mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def find_exposure_below(top: Path, most: int = 1_000_000) -> str:
    """Return what lets another account change this path, or anything below it, also over links; empty if nothing does.

    Of more than `most` entries that is not known, and said so.
    """
    waiting, seen, looked = [top], set[Path](), 0
    while waiting:
        place = waiting.pop()
        if place.is_char_device():  # what is written to /dev/null is nowhere
            continue
        if why := find_exposure(place):
            return why
        if (real := Path(os.path.realpath(place))) in seen or not real.is_dir():
            continue
        seen.add(real)
        below = [*real.iterdir()]
        if (looked := looked + len(below)) > most:
            return f"{top}, of which more than {most} entries were not looked at"
        for path in below:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
                waiting.append(path)
            elif status.st_uid not in {0, os.geteuid()}:
                return f"{path} of user {status.st_uid}"
            elif _is_shared(status):
                return f"{path} of mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def _is_shared(status: os.stat_result) -> bool:
    """Return whether others may write to it. A group of root's, or of our account alone, is nobody else."""
    shared = bool(status.st_mode & _OTHERS)
    if not shared and status.st_mode & _GROUP:
        shared = True
        with suppress(KeyError):
            group, alone = grp.getgrgid(status.st_gid), {"root", account_name(os.geteuid())}
            shared = not {group.gr_name, *group.gr_mem} <= alone
    return shared


def why_not_followed(path: Path) -> str:
    """Return why a path that leads over links is not followed; empty if it has none, or if all of it is ours."""
    if os.path.realpath(path) == os.path.abspath(path) or not (place := find_exposure(path)):
        return ""
    return f"{path} is a link or lies behind one, and {place} can be changed by another account"


def open_folder(path: Path) -> int:
    """Open a folder. Raises PermissionError if a link led there that another account could have put there."""
    descriptor = os.open(path, _FOLDER)
    real = os.readlink(f"/proc/self/fd/{descriptor}")
    if real != os.path.abspath(path) and (place := find_exposure(path)):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"a link leads elsewhere, and {place} is not ours", str(path))
    return descriptor


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Open a folder for the block, as `open_folder` does."""
    descriptor = open_folder(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o755) -> int:
    """Open a folder, which is made with its parents if it is missing. Raises OSError as `open_folder` does."""
    try:
        return open_folder(path)
    except FileNotFoundError:
        above = make_folder(path.parent)
    try:
        with suppress(FileExistsError):
            os.mkdir(path.name, mode, dir_fd=above)
        return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
    finally:
        os.close(above)
