"""Decide which containers belong to the workload and which one we run in; define receipts (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from signal import SIGINT, SIGTERM, Signals
from typing import Any, Final

from tasks.custody.containment.ends import End
from tasks.custody.containment.process import Masks

ALIVE: Final = frozenset({"running", "paused", "restarting"})
_SHORT: Final = 12
_ABOVE: Final = "/.."
_IN_CGROUP: Final = re.compile(r"/(?:(?P<kind>[\w-]+)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)
_STARTERS: Final = {
    "com.docker.swarm.service.name": "swarm service",
    "io.kubernetes.pod.name": "Kubernetes pod",
}
_MONITORS: Final = "conmon"
_OWN_MOUNT: Final = re.compile(
    r"/(?:overlay-)?containers/(?P<id>[0-9a-f]{64})/\S+ /etc/(?:hosts|hostname|resolv\.conf) "
)
_TAGGED: Final = re.compile(r"[:@][^/]*$")
_HUB: Final = ("docker.io/library/", "index.docker.io/library/", "library/", "docker.io/", "index.docker.io/")


@dataclass(frozen=True, order=True)
class ContainerIdentity:
    """One run of a container: its full id and its start time. The id alone outlives a restart."""

    id: str
    started_at: str

    def started_before(self, moment: datetime) -> bool:
        """Return whether it started before `moment`; True also if its start cannot be read."""
        try:
            return datetime.fromisoformat(self.started_at) < moment
        except (TypeError, ValueError):
            return True


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host, or a volume, that a container has at `target`."""

    source: str
    target: PurePath
    writable: bool


@dataclass(frozen=True)
class Container:
    """One container as the engine describes it.

    `descends_from` holds the requested image names that the engine reports as ancestors of the container's image. `pid`
    is its first process, 0 if none runs; `stop_signal` is empty if its image names none. `ports` are the host's that it
    publishes.
    """

    identity: ContainerIdentity
    name: str
    image: str
    image_id: str
    state: str
    pid: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: str = ""
    auto_remove: bool = False
    stop_signal: str = ""
    exit_code: int | None = None
    folder: str = "/"
    descends_from: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    ports: frozenset[int] = frozenset()

    @property
    def id(self) -> str:
        """Full id."""
        return self.identity.id

    @property
    def alive(self) -> bool:
        """Whether it runs, or may run again by its restart policy."""
        return self.state in ALIVE

    @property
    def summary(self) -> str:
        """Name, short id and image, to find it in `docker ps`."""
        return f"container {self.name} ({self.id[:_SHORT]}, {self.image})"

    @property
    def source(self) -> str:
        """The orchestrator that starts it again when it ends, by its labels; empty if unknown."""
        return next((f"{kind} {self.labels[label]}" for label, kind in _STARTERS.items() if label in self.labels), "")


def belongs(container: Container, asked: str) -> bool:
    """Return whether a container fits an entry of `containers`: image=NAME, label=KEY, label=KEY=VALUE or name=NAME.

    An image counts by its name, its id and, as in `docker ps --filter ancestor`, for images built from it.
    """
    kind, _, wanted = asked.partition("=")
    if kind == "image":
        names = (container.image, *container.descends_from)
        return reference(wanted) in {reference(name) for name in names} or _is_id(wanted, container.image_id)
    if kind == "label":
        key, valued, value = wanted.partition("=")
        return key in container.labels and (not valued or container.labels[key] == value)
    return kind == "name" and container.name == wanted.removeprefix("/")


def _is_id(wanted: str, image_id: str) -> bool:
    short = wanted.removeprefix("sha256:")
    return len(short) >= _SHORT and image_id.removeprefix("sha256:").startswith(short)


def reference(name: str) -> str:
    """Return an image's full name: with the tag `latest` if it has none, and without Docker Hub's prefixes."""
    for prefix in _HUB:
        name = name.removeprefix(prefix)
    return name if _TAGGED.search(name) else f"{name}:latest"


def workload_containers(containers: Iterable[Container], asked: Iterable[str], own: str | None) -> list[Container]:
    """Return the living containers of the workload, without the one that we run in."""
    wanted = tuple(asked)
    return [
        container
        for container in containers
        if container.alive and container.id != own and any(belongs(container, entry) for entry in wanted)
    ]


def container_of(cgroup: str) -> str | None:
    """Return the id of the innermost container of a process, from the text of /proc/PID/cgroup.

    Knows cgroup versions 1 and 2, both cgroup drivers of Docker, podman, and containerd and CRI-O under Kubernetes.
    podman's monitor beside a container is not part of it.
    """
    found = [match for match in _IN_CGROUP.finditer(cgroup) if _MONITORS not in (match["kind"] or "")]
    return found[-1]["id"] if found else None


def own_container(cgroup: str, mounts: str) -> str | None:
    """Return the id of the container that we run in, from our cgroup and /proc/self/mountinfo.

    A cgroup namespace hides our own id; the files that every engine mounts into /etc show it.
    """
    found = _OWN_MOUNT.search(mounts)
    return container_of(cgroup) or (found["id"] if found else None)


@dataclass(frozen=True)
class Standpoint:
    """The container that we run in (`own`) and that of pid 1 (`world`), None if none.

    In a container with the host's pid namespace, processes of other containers are visible. Those in pid 1's container
    count as in none. `hidden` says that a cgroup namespace shows our own container as the root group.
    """

    own: str | None = None
    world: str | None = None
    hidden: bool = False

    @classmethod
    def of(cls, ours: str, inits: str, mounts: str) -> "Standpoint":
        """Return the standpoint, from the cgroups of this process and of pid 1, and /proc/self/mountinfo."""
        own = own_container(ours, mounts)
        hidden = own is not None and container_of(ours) is None
        shared = hidden and _ABOVE not in inits
        return cls(own, own if shared else container_of(inits), hidden and not shared)

    def container(self, cgroup: str) -> str | None:
        """Return the container id of a process with this cgroup; None for none, or for pid 1's container."""
        told = container_of(cgroup) or (self.own if self.hidden and cgroup and _ABOVE not in cgroup else None)
        return None if told == self.world else told


def gentle_signal_of(container: Container, masks: Masks | None) -> Signals | None:
    """Return the signal that ends a container gracefully: its image's, else SIGTERM, else SIGINT, if init handles it.

    Pid 1 of a container ignores signals without a handler. None if it handles none of them: waiting for the grace would
    be in vain. If the masks are not readable, the first is returned.
    """
    named = _named(container.stop_signal) or SIGTERM
    if masks is None:
        return named
    return next((number for number in (named, SIGTERM, SIGINT) if _reaches_init(masks, number)), None)


def _reaches_init(masks: Masks, number: Signals) -> bool:
    """Return whether the signal has a handler, or is blocked and waited for, as in tini (`docker run --init`)."""
    return bool((masks.caught | masks.blocked) >> (number - 1) & 1)


def _named(stop_signal: str) -> Signals | None:
    name = stop_signal.upper()
    try:
        return Signals(int(name)) if name.isdigit() else Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        return None


def mounted(about: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return what of the host a container has, by the engine's `inspect`."""
    rows = (each for each in about.get("Mounts") or () if each.get("Source"))
    return tuple(Mount(each["Source"], PurePath(each["Destination"]), bool(each["RW"])) for each in rows)


def published(about: Mapping[str, Any]) -> frozenset[int]:
    """Return the host's ports that a container publishes when it runs, by the engine's `inspect`."""
    places = (about["HostConfig"].get("PortBindings"), (about.get("NetworkSettings") or {}).get("Ports"))
    bound = (binding for each in places for bindings in (each or {}).values() for binding in bindings or ())
    return frozenset(int(port) for binding in bound if (port := binding.get("HostPort") or "").isdigit())


@dataclass(frozen=True)
class FrozenContainer:
    """A container of the workload, as the freeze found it.

    `paused_at` is None if it was not paused: `denied` is the reason, empty if it had ended. `stood` says that it was
    already paused.
    """

    identity: ContainerIdentity
    name: str
    image: str
    restart: str
    auto_remove: bool
    why: str
    seen_at: datetime
    paused_at: datetime | None
    denied: str = ""
    stood: bool = False

    @property
    def summary(self) -> str:
        """Name, short id and image, to find it in `docker ps`."""
        return f"container {self.name} ({self.identity.id[:_SHORT]}, {self.image})"


@dataclass(frozen=True)
class StoppedContainer:
    """Receipt of one stopped container: the signals sent, with times, and how it ended.

    `removed` says that the engine removed it at its end (`docker run --rm`); other containers stay, stopped, for
    inspection.
    """

    identity: ContainerIdentity
    name: str
    image: str
    signals: tuple[tuple[str, datetime], ...]
    end: End
    exit_code: int | None
    gone_at: datetime | None
    removed: bool
    reason: str = ""

    @property
    def summary(self) -> str:
        """Name and image, and whether it was removed."""
        return f"{self.name} ({self.image}){', removed with its end' if self.removed else ''}"
