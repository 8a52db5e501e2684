"""Decide which containers belong to the workload and which is ours; define their receipts (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
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
    """A container for one of its lives: its full id, and when it was started. The id alone outlives a restart."""

    id: str
    started_at: str


@dataclass(frozen=True)
class Container:
    """One container as the engine told of it.

    `descends_from` holds those of the image names that were asked for, of which the engine says that the container's
    image is a child. `pid` is its first process, 0 where none runs; `stop_signal` is empty where its image names none.
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

    @property
    def id(self) -> str:
        """Full id."""
        return self.identity.id

    @property
    def alive(self) -> bool:
        """True while it may run something, now or at its next restart."""
        return self.state in ALIVE

    @property
    def summary(self) -> str:
        """As a person finds it again in `docker ps`."""
        return f"container {self.name} ({self.id[:_SHORT]}, {self.image})"

    @property
    def source(self) -> str:
        """What starts it again when it ends, as far as it tells; empty if nothing that is known of."""
        return next((f"{kind} {self.labels[label]}" for label, kind in _STARTERS.items() if label in self.labels), "")


def belongs(container: Container, asked: str) -> bool:
    """Try one entry of the workload block's `containers`: image=NAME, label=KEY, label=KEY=VALUE or name=NAME.

    An image counts by its name, by its id, and, as in `docker ps --filter ancestor`, for the images made from it.
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
    """An image's name in full: the engine takes a name without a tag for `latest`, and the Hub for granted."""
    for prefix in _HUB:
        name = name.removeprefix(prefix)
    return name if _TAGGED.search(name) else f"{name}:latest"


def workload_containers(containers: Iterable[Container], asked: Iterable[str], own: str | None) -> list[Container]:
    """Living containers that belong to the workload; never the one that we run in ourselves."""
    wanted = tuple(asked)
    return [
        container
        for container in containers
        if container.alive and container.id != own and any(belongs(container, entry) for entry in wanted)
    ]


def container_of(cgroup: str) -> str | None:
    """Id of the innermost container that a process is in, from the text of /proc/PID/cgroup.

    Both cgroup versions and both drivers of Docker, podman, and containerd or CRI-O under Kubernetes.
    A monitor that podman puts beside the container is no part of it.
    """
    found = [match for match in _IN_CGROUP.finditer(cgroup) if _MONITORS not in (match["kind"] or "")]
    return found[-1]["id"] if found else None


def own_container(cgroup: str, mounts: str) -> str | None:
    """Id of the container that we run in, from our own cgroup and /proc/self/mountinfo.

    A cgroup namespace hides the id from ourselves; the files that every engine mounts into /etc still tell it.
    """
    found = _OWN_MOUNT.search(mounts)
    return container_of(cgroup) or (found["id"] if found else None)


@dataclass(frozen=True)
class Standpoint:
    """Where we look from: the container that we run in, and the one that pid 1 runs in, if any.

    Run in a container with the host's pids we see two worlds; everything that shares pid 1's container is in none from
    there. `hidden` says that a cgroup namespace shows us our own container's processes at the top.
    """

    own: str | None = None
    world: str | None = None
    hidden: bool = False

    @classmethod
    def of(cls, ours: str, inits: str, mounts: str) -> "Standpoint":
        """From the cgroups of ourselves and of pid 1, and our mounts."""
        own = own_container(ours, mounts)
        hidden = own is not None and container_of(ours) is None
        shared = hidden and _ABOVE not in inits
        return cls(own, own if shared else container_of(inits), hidden and not shared)

    def container(self, cgroup: str) -> str | None:
        """The container of a process as seen from here."""
        told = container_of(cgroup) or (self.own if self.hidden and cgroup and _ABOVE not in cgroup else None)
        return None if told == self.world else told


def gentle_signal_of(container: Container, masks: Masks | None) -> Signals | None:
    """The signal that ends the container gently: the one that its image names, else SIGTERM, if its init catches it.

    The first process of a container is deaf to what it has no handler for: then SIGINT, where that is caught; else
    none, and the grace would be waited out in vain. Where its masks cannot be read, the first is tried.
    """
    named = _named(container.stop_signal) or SIGTERM
    if masks is None:
        return named
    return next((number for number in (named, SIGTERM, SIGINT) if _reaches_init(masks, number)), None)


def _reaches_init(masks: Masks, number: Signals) -> bool:
    """A handler takes it, or it is blocked and waited for, as tini (`docker run --init`) does."""
    return bool((masks.caught | masks.blocked) >> (number - 1) & 1)


def _named(stop_signal: str) -> Signals | None:
    name = stop_signal.upper()
    try:
        return Signals(int(name)) if name.isdigit() else Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        return None


def publishes(about: Mapping[str, Any], port: int) -> bool:
    """Whether a container is told to publish something under this port of the host, by what the engine knows of it."""
    bound = (about["HostConfig"].get("PortBindings") or {}).values()
    return any(binding.get("HostPort") == str(port) for bindings in bound for binding in bindings or ())


@dataclass(frozen=True)
class FrozenContainer:
    """A container of the workload as the freeze found it.

    `paused_at` is None where the pause did not take: `denied` says why, and is empty if nothing of it ran any more.
    `stood` says that it was paused when the freeze met it.
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
        """As a person finds it again in `docker ps`."""
        return f"container {self.name} ({self.identity.id[:_SHORT]}, {self.image})"


@dataclass(frozen=True)
class StoppedContainer:
    """Receipt of one container: the signals it was sent with their times, and how it ended.

    `removed` tells that it vanished with its end (`docker run --rm`); others are left stopped, to be looked into.
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
        """Its name, its image, and whether anything of it is left to be looked into."""
        return f"{self.name} ({self.image}){', removed with its end' if self.removed else ''}"
