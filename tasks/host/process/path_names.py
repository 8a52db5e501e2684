"""Tell since when a path leads where it leads now: a folder is renamed, a link is moved to another release.

Both change the time of change (ctime) of the folder that has the name, and of the folder or link itself; nobody can set
that back. Content changes one of the two as well, so that this is the latest moment at which it can have been.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from stat import S_ISLNK
from typing import Final

_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""


@dataclass(frozen=True)
class LinkTarget:
    """Where a link of a path leads, and the rest of the path behind it."""

    place: PurePath
    rest: tuple[str, ...]

    def is_beside(self, path: str) -> bool:
        """Return whether a path lies at the same place in another folder beside the target, as an earlier release."""
        with suppress(ValueError):
            first, *more = PurePath(path).relative_to(self.place.parent).parts
            return first != self.place.name and tuple(more[: len(self.rest)]) == self.rest
        return False


@dataclass(frozen=True)
class PathHistory:
    """Since when a path's folders, and its links, are surely what they are, in clock ticks since boot."""

    folders: float = float("inf")
    links: float = float("inf")
    targets: tuple[LinkTarget, ...] = ()


UNKNOWN_PATH: Final = PathHistory()


def history_of(path: str, top: str = "/") -> PathHistory:
    """Follow an absolute path from the top, link by link. Of one that leads nowhere nothing is known.

    `top` is the root folder of who calls it so: a process may have one of its own, or other mounts.
    """
    with suppress(OSError, ValueError):
        return _follow(path, top)
    return UNKNOWN_PATH


def _follow(path: str, top: str) -> PathHistory:
    folders, links, targets = 0.0, 0.0, list[LinkTarget]()
    here, names = top.rstrip("/"), _names(path)
    above = os.stat(f"{here}/")
    while names:
        name = names.pop()
        if name == "..":
            here = here.rpartition("/")[0] if len(here) > len(top) else here
            above = os.stat(f"{here}/")
            continue
        place = f"{here}/{name}"
        status = os.lstat(place)
        changed = min(status.st_ctime, above.st_ctime)
        if not S_ISLNK(status.st_mode):
            here, above, folders = place, status, max(folders, changed)
            continue
        targets.append(LinkTarget(PurePath(os.path.realpath(place)), tuple(reversed(names))))
        if len(targets) > _LINKS:
            raise ValueError(f"more than {_LINKS} links")
        links, to = max(links, changed), os.readlink(place)
        names += _names(to)
        if to.startswith("/"):
            here, above = top.rstrip("/"), os.stat(top)
    return PathHistory(ticks_of(folders), ticks_of(links), tuple(targets))


def _names(path: str) -> list[str]:
    """Return the names of a path, the last first."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def ticks_of(moment: float) -> float:
    """Return a moment of the epoch in clock ticks since boot, as the kernel counts the starts of processes."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return (moment - booted) * os.sysconf("SC_CLK_TCK")
