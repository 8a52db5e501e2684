"""Find what a container has changed and no pattern of the block names: what to ask for, and what is left and why."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from tasks.acquisition.remainder import CACHE, Remainder, is_cache, why_unread
from tasks.custody.evidence.keys import CONTAINERS, quote
from tasks.custody.evidence.pattern import matches_inside

_DELETED: Final = 2
"""Kind of a change by which the container has less than its image, as the engine numbers it."""


@dataclass
class Layer:
    """One container: its working directory and mounts, the workload's root and patterns, and what is left of it."""

    name: str
    workdir: str
    root: str
    mounts: Sequence[Mapping[str, Any]]
    patterns: Sequence[str]
    remainders: list[Remainder] = field(default_factory=list)
    _mounted: set[str] = field(default_factory=set)

    def leave(self, path: str, files: int, size: int, reason: str, *, complete: bool = True) -> None:
        """Put a file, or a folder whose path ends in a slash, on the list."""
        name = f"{CONTAINERS}/{self.name}{path}".encode(errors="surrogateescape")
        self.remainders.append(Remainder(name, files, size, reason, complete, elsewhere=True))

    def leave_image(self, inspection: Mapping[str, Any]) -> None:
        """Put on the list what the container has of its image: the digest of that names it."""
        image = f"{inspection['Config']['Image']}, {inspection['Image']}"
        reason = f"what it has of its image is named by the digest of that: {image}"
        name = f"{CONTAINERS}/{self.name}/image".encode()
        self.remainders.append(Remainder(name, 0, 0, reason, reproducible=True, elsewhere=True, image=True))

    def leave_mounts(self, inspection: Mapping[str, Any], walked: Sequence[str]) -> None:
        """Put on the list each volume and mount that no pattern names whole, and what is only in memory.

        `walked` are the folders that patterns name. What is mounted from the root is collected there; what the
        container may not write into is no work of its own.
        """
        for mount in self.mounts:
            at, source = posixpath.normpath(mount["Destination"]), str(mount.get("Source") or "")
            whole = any(PurePosixPath(at).is_relative_to(each) for each in walked)
            if _is_of(self.root, mount) or not mount.get("RW", True) or whole:
                continue
            kind = str(mount.get("Type") or "mount")
            origin = f" of {quote((mount.get('Name') or source).encode())}" if source else ""
            parts = sorted(each for each in walked if PurePosixPath(each).is_relative_to(at))
            named = f"of which patterns name {', '.join(parts)} alone" if parts else "of which no pattern names a file"
            self.leave(f"{at}/", 0, 0, f"a {kind}{origin}, {named}", complete=False)
        for at in (inspection.get("HostConfig") or {}).get("Tmpfs") or ():
            self.leave(f"{posixpath.normpath(at)}/", 0, 0, "in memory, which the engine does not give", complete=False)

    def leave_mounted(self, path: str, size: int) -> None:
        """Put a file of a walked folder that no pattern names on the list, if it lies in a mount not of the root.

        Of the image it is named by that, and of the container's own layer by what the engine calls changed.
        """
        if self._is_named(path):
            return
        over = [each for each in self.mounts if PurePosixPath(path).is_relative_to(each["Destination"])]
        mount = max(over, key=lambda each: len(each["Destination"]), default=None)
        if mount and not _is_of(self.root, mount) and path not in self._mounted:
            self._mounted.add(path)
            self.leave(path, 1, size, f"in a {mount.get('Type') or 'mount'}, and no pattern names it")

    def select(self, diff: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """Yield the full paths to ask for, by what the engine calls changed; put on the list what its name rules out.

        Folders above another path are left out, as are what patterns take and the places of mounts.
        """
        paths = sorted({str(each["Path"]) for each in diff if each["Kind"] != _DELETED})
        above = {posixpath.dirname(path) for path in paths}
        mounts = [posixpath.normpath(each["Destination"]) for each in self.mounts]
        caches = dict[str, int]()
        for path in paths:
            if path in above or self._is_named(path) or any(PurePosixPath(path).is_relative_to(at) for at in mounts):
                continue
            if cache := _cache_above(path):
                caches[cache] = caches.get(cache, 0) + 1
            elif why := why_unread(posixpath.basename(path)):
                self.leave(path, 1, 0, f"{why}; its size was not asked for")
            else:
                yield path
        for cache, files in caches.items():
            self.leave(f"{cache}/", files, 0, f"{CACHE}; its size was not asked for")

    def _is_named(self, path: str) -> bool:
        return matches_inside(path, self.workdir, self.patterns)


def _is_of(root: str, mount: Mapping[str, Any]) -> bool:
    source = str(mount.get("Source") or "")
    return bool(source) and PurePosixPath(os.path.realpath(source)).is_relative_to(os.path.realpath(root))


def _cache_above(path: str) -> str:
    return next((str(each) for each in reversed(PurePosixPath(path).parents) if is_cache(each.name)), "")
