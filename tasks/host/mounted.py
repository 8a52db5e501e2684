"""Which mounts have a file, since when each is there, and which a process alone sees.

A mount over a folder changes no time of the folder. When it was made systemd alone can tell.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Final

from tasks.host.container.mounts import Spot, mounted_in, spot_in
from tasks.host.process.places import mounts_of
from tasks.system.kernel_tables import read_kernel, read_table

_HOST: Final = 1
"""The process that has the mounts of the host, also where ours are our service's or our container's."""
_LARGEST: Final = 1 << 22


def find_late_mount(root: str, name: str, began: datetime, mounted_at: Callable[[str], datetime | None]) -> str:
    """Return which mount on the way to a file of the root may have come after a process `began`; empty if none may.

    One on the way to the root itself may only if `mounted_at` says so: a process that works in a folder stays in it.
    """
    file, top = PurePath(os.path.realpath(f"{root}/{name}")), PurePath(os.path.realpath(root))
    mounts = (mounts_of(_HOST) or mounts_of("self")).values()
    points = [each.point for each in mounts if file.is_relative_to(each.point)]
    for point in dict.fromkeys(points):
        at = mounted_at(point) if points.count(point) == 1 else None
        if at and at > began:
            return f"{point} was mounted at {at:%H:%M:%S}Z, after the API had started ({began:%H:%M:%S}Z)"
        if at is None and not top.is_relative_to(point):
            return f"{point} is a mount, and nothing tells whether it was there when the API started"
    return ""


def find_own_mounts(pid: int, root: str) -> list[str]:
    """Return the folders, the root or below it, at which a process sees another place of a file system than we do.

    The root itself if the process has more mounts than are compared. Raises OSError if its mounts are not readable.
    """
    if os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt"):
        return []
    top = os.path.realpath(root)
    texts = [read_kernel(f"/proc/{each}/mountinfo", _LARGEST + 1) for each in ("self", pid)]
    if max(map(len, texts)) > _LARGEST:
        return [top]
    ours, theirs = (mounted_in(os.fsdecode(text)) for text in texts)
    return _differ(ours, theirs, top)


def find_unseen(pid: int, root: str) -> dict[str, str]:
    """Return where in the root a process has files that we see nowhere in it, each with the kind of its file system.

    A process with a root of its own that has not ours, as in a container, has none. Raises OSError if its mounts are
    not readable.
    """
    if os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt"):
        return {}
    top = os.path.realpath(root)
    ours, theirs = (mounted_in(read_table(f"/proc/{each}/mountinfo")) for each in ("self", pid))
    if all(spot_in(ours, PurePath(each)) != spot_in(theirs, PurePath(each)) for each in ("/", top)):
        return {}
    kinds = {each.point: each.kind for each in mounts_of(pid).values()}
    unseen = (PurePath(each) for each in _differ(ours, theirs, top))
    unseen = (each for each in unseen if not _lies_in(spot_in(theirs, each), ours, top))
    return {
        str(path): next((kinds[at] for at in map(str, (path, *path.parents)) if at in kinds), "") for path in unseen
    }


def _differ(ours: Mapping[str, Spot], theirs: Mapping[str, Spot], top: str) -> list[str]:
    points = {top, *(point for point in (*ours, *theirs) if PurePath(point).is_relative_to(top))}
    return sorted(each for each in points if spot_in(ours, PurePath(each)) != spot_in(theirs, PurePath(each)))


def _lies_in(spot: Spot, ours: Mapping[str, Spot], top: str) -> bool:
    """Return whether we see that place too, by some name below the root."""
    for each in {top, *(point for point in ours if PurePath(point).is_relative_to(top))}:
        at = spot_in(ours, PurePath(each))
        if at.holds(spot) and spot_in(ours, PurePath(each) / spot.path.relative_to(at.path)) == spot:
            return True
    return False


def find_point(points: Iterable[str], root: str, name: str) -> str:
    """Return the one of these folders that has a file of the root; empty if none has."""
    file = PurePath(os.path.realpath(f"{root}/{name}"))
    return next((each for each in points if file.is_relative_to(each)), "")
