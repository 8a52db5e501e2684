"""Decide whether a container that the block does not name is tied to the workload: by mounts, port or processes."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Self

from tasks.custody.visible import visible
from tasks.host.container.membership import Container, Mount, find_mounts
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.process import Process
from tasks.system.kernel_tables import unescape


def real_mounts(details: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return what of the host a container has, by the engine's `inspect`, with the real paths of the sources."""
    return _resolve(find_mounts(details))


def _resolve(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    return tuple(replace(each, source=os.path.realpath(each.source)) for each in mounts)


def paths_inside(place: PurePath, mounts: Sequence[Mount]) -> list[str]:
    """Return the paths in a container at which its mounts have a place of the host, given by its real path."""
    held = (each.target / place.relative_to(each.source) for each in mounts if place.is_relative_to(each.source))
    return [str(path) for path in held if place_outside(path, mounts) == place]


def place_outside(path: PurePath, mounts: Sequence[Mount]) -> PurePath | None:
    """Return the place of the host that a container has at a path without links, by its innermost mount; else None."""
    mount = find_mount(path, mounts)
    return PurePath(mount.source, path.relative_to(mount.target)) if mount else None


def find_mount(path: PurePath, mounts: Iterable[Mount]) -> Mount | None:
    """Return the innermost of a container's mounts that has a path; None if none has."""
    over = [each for each in mounts if path.is_relative_to(each.target)]
    return max(over, key=lambda each: len(each.target.parts), default=None)


@dataclass(frozen=True)
class ContainerView:
    """What a container sees of the host: its mounts, and the folder from which its relative paths count."""

    folder: str
    mounts: Sequence[Mount]

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Self:
        """Return that of the engine's `inspect`."""
        return cls((details.get("Config") or {}).get("WorkingDir") or "/", find_mounts(details))

    @classmethod
    def of_container(cls, container: Container) -> Self:
        """Return that of a container that the engine has now."""
        return cls(container.folder, container.mounts)

    def find_outside(self, folders: Iterable[str]) -> Iterator[str]:
        """Yield where on the host these folders, or parts of them, lie; what is in its own layer lies nowhere there."""
        mounts = _resolve(self.mounts)
        for folder in folders:
            inside = PurePath(os.path.normpath(PurePath(self.folder, folder)))
            if place := place_outside(inside, mounts):
                yield str(place)
            yield from (each.source for each in mounts if each.target != inside and each.target.is_relative_to(inside))


@dataclass(frozen=True)
class Spot:
    """Where a file really lies: its file system, as the kernel numbers it, and its path within that."""

    device: str
    path: PurePath

    def holds(self, other: "Spot") -> bool:
        """Return whether the other is this one or lies below it."""
        return self.device == other.device and other.path.is_relative_to(self.path)

    def meets(self, other: "Spot") -> bool:
        """Return whether one of the two holds the other."""
        return self.holds(other) or other.holds(self)


Spots = Sequence[tuple[Mount, Spot]]
"""Where each mount lies, by one view or several."""


def spot_of(path: PurePath, mountinfo: str) -> Spot:
    """Return where a path without links lies, by the text of /proc/PID/mountinfo (proc(5)).

    The innermost mount has it.
    """
    return spot_in(mounted_in(mountinfo), path)


def mounted_in(mountinfo: str) -> dict[str, Spot]:
    """Return what is mounted, by the folder that it covers: of several on one folder the last covers the others.

    Of the fields of mountinfo that are read here the device is the kernel's, the folders are texts in which it escapes.
    """
    rows = (map(unescape, line.split(" ")[2:5]) for line in mountinfo.split("\n") if line)
    return {point: Spot(device, PurePath(inner)) for device, inner, point in rows}


def spot_in(mounted: Mapping[str, Spot], path: PurePath) -> Spot:
    """Return where a path without links lies, by the innermost of these mounts."""
    point = next((each for each in (path, *path.parents) if str(each) in mounted), None)
    if point is None:
        return Spot("", path)
    mount = mounted[str(point)]
    return Spot(mount.device, mount.path / path.relative_to(point))


@dataclass(frozen=True)
class Ground:
    """What of the workload a container may have: root, folders of models, the API's port if it counts, processes.

    `shared` is where on the host the workload's own containers have what is collected.
    """

    root: Spot
    models: frozenset[Spot]
    port: int | None
    workload: WorkloadDescription
    shared: frozenset[Spot] = frozenset()

    def tie(self, container: Container, spots: Spots, processes: Iterable[Process]) -> tuple[str, bool]:
        """Return what a container has of the workload, empty if nothing, and whether that makes it a suspect.

        Models count by a mount of them, or of what is in the root: who reads all of a host serves no model of it.
        `processes` are those that run in the container.
        """
        has = dict.fromkeys(mount for mount, spot in spots if spot.meets(self.root))
        for mount in has:
            if mount.writable:
                return f"it may write into the root: {_describe(mount)}", True
        shares = dict.fromkeys(mount for mount, spot in spots if any(map(spot.meets, self.shared)))
        for mount in shares:
            if mount.writable:
                return f"it may write what is collected from a container of the workload: {_describe(mount)}", True
        for mount, spot in spots:
            if any(_has(spot, models, self.root) for models in self.models):
                return f"it has the models: {_describe(mount)}", True
        if self.port in container.ports:
            return f"it publishes the API's port {self.port}", True
        for process in processes:
            if process.is_rooted and self.workload.names(process):
                return f"its process {process.pid} matches and is in the root", True
        return "; ".join(map(_describe, has | shares)), False


def _has(spot: Spot, models: Spot, root: Spot) -> bool:
    return (models.holds(spot) and models != root) or (spot.holds(models) and root.holds(spot))


def _describe(mount: Mount) -> str:
    how = "writable" if mount.writable else "read-only"
    return f"{visible(mount.source)} is mounted {how} at {visible(str(mount.target))}"
