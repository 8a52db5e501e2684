"""Which mounts have a file, since when each is there, and which a process alone sees.

A mount over a folder changes no time of the folder. When it was made systemd alone can tell.
"""

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from tasks.system.kernel_tables import read_kernel, unescape

_HOST: Final = 1
"""The process that has the mounts of the host, also where ours are our service's or our container's."""
_LARGEST: Final = 1 << 22


class _Mount(NamedTuple):
    point: str
    device: str
    folder: str


def find_late_mount(root: str, name: str, began: datetime, mounted_at: Callable[[str], datetime | None]) -> str:
    """Return which mount on the way to a file of the root may have come after a process `began`; empty if none may.

    One on the way to the root itself may only if `mounted_at` says so: a process that works in a folder stays in it.
    """
    file, top = os.path.realpath(f"{root}/{name}"), os.path.realpath(root)
    try:
        mounts = _mounts(_HOST)
    except OSError:
        mounts = _mounts("self")
    points = [each.point for each in mounts if _has(each.point, file)]
    for point in dict.fromkeys(points):
        at = mounted_at(point) if points.count(point) == 1 else None
        if at and at > began:
            return f"{point} was mounted at {at:%H:%M:%S}Z, after the API had started ({began:%H:%M:%S}Z)"
        if at is None and not _has(point, top):
            return f"{point} is a mount, and nothing tells whether it was there when the API started"
    return ""


def find_own_mounts(pid: int, root: str) -> list[str]:
    """Return the folders, the root or below it, at which a process sees another place of a file system than we do.

    The root itself if the process has more mounts than are compared. Raises OSError if its mounts are not readable.
    """
    if _namespace(pid) == _namespace("self"):
        return []
    top = os.path.realpath(root)
    ours, theirs = (_near(_mounts(each), top) for each in ("self", pid))
    points = {top, *(point for point in (*ours, *theirs) if _has(top, point))}
    return sorted(point for point in points if not theirs or _spot(ours, point) != _spot(theirs, point))


def find_point(points: Iterable[str], root: str, name: str) -> str:
    """Return the one of these folders that has a file of the root; empty if none has."""
    file = os.path.realpath(f"{root}/{name}")
    return next((each for each in points if _has(each, file)), "")


def _mounts(pid: int | str) -> list[_Mount]:
    """Return what /proc/PID/mountinfo has (proc(5)); none of a table that is larger than 4 MiB."""
    text = read_kernel(f"/proc/{pid}/mountinfo", _LARGEST + 1)
    rows = os.fsdecode(text).split("\n") if len(text) <= _LARGEST else []
    parts = (row.split(" ") for row in rows if row)
    return [_Mount(unescape(each[4]), each[2], unescape(each[3])) for each in parts]


def _near(mounts: Iterable[_Mount], top: str) -> dict[str, _Mount]:
    """Return those on the way to a folder and below it, by their points: of several at one the last covers the rest."""
    return {each.point: each for each in mounts if _has(top, each.point) or _has(each.point, top)}


def _spot(mounts: dict[str, _Mount], path: str) -> tuple[str, PurePosixPath]:
    """Return the file system that has a path, and the path within that."""
    over = next((str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents) if str(each) in mounts), "")
    mount = mounts.get(over, _Mount(over, "", ""))
    return mount.device, PurePosixPath(mount.folder, path[len(over) :].lstrip("/"))


def _has(point: str, path: str) -> bool:
    return path == point or path.startswith(f"{point.rstrip('/')}/")


def _namespace(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/mnt")
