"""Decide which containers belong to the workload, and by which signal each is ended (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.containment.identity import ContainerIdentity
from tasks.host.process.process import Masks
from tasks.host.process.table import standpoint

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine

ALIVE: Final = frozenset({"running", "paused", "restarting"})
_SHORT: Final = 12
_STARTERS: Final = {
    "com.docker.swarm.service.name": "swarm service",
    "io.kubernetes.pod.name": "Kubernetes pod",
}
_TAGGED: Final = re.compile(r"[:@][^/]*$")
_HUB: Final = ("docker.io/library/", "index.docker.io/library/", "library/", "docker.io/", "index.docker.io/")


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


def belongs(container: Container, entry: str) -> bool:
    """Return whether a container fits an entry of `containers`: image=NAME, label=KEY, label=KEY=VALUE or name=NAME.

    An image counts by its name, its id and, as in `docker ps --filter ancestor`, for images built from it.
    """
    kind, _, wanted = entry.partition("=")
    if kind == "image":
        names = (container.image, *container.descends_from)
        short, image_id = wanted.removeprefix("sha256:"), container.image_id.removeprefix("sha256:")
        is_id = len(short) >= _SHORT and image_id.startswith(short)
        return is_id or reference(wanted) in {reference(name) for name in names}
    if kind == "label":
        key, valued, value = wanted.partition("=")
        return key in container.labels and (not valued or container.labels[key] == value)
    return kind == "name" and container.name == wanted.removeprefix("/")


def reference(name: str) -> str:
    """Return an image's full name: with the tag `latest` if it has none, and without Docker Hub's prefixes."""
    for prefix in _HUB:
        name = name.removeprefix(prefix)
    return name if _TAGGED.search(name) else f"{name}:latest"


def workload_containers(containers: Iterable[Container], entries: Iterable[str], own: str | None) -> list[Container]:
    """Return the living containers of the workload, without the one that we run in."""
    wanted = tuple(entries)
    return [
        container
        for container in containers
        if container.alive and container.id != own and any(belongs(container, entry) for entry in wanted)
    ]


def find_living(engine: "Engine", entries: Sequence[str]) -> list[Container]:
    """Return those that the engine has now. Raises EngineError."""
    return workload_containers(engine.containers(entries), entries, standpoint().own)


def gentle_signal_of(container: Container, masks: Masks | None) -> Signals | None:
    """Return the signal that ends a container gracefully: its image's, else SIGTERM, else SIGINT, if init handles it.

    Pid 1 of a container ignores signals without a handler. None if it handles none of them: waiting for the grace would
    be in vain. If the masks are not readable, the first is returned.
    """
    name, named = container.stop_signal.upper(), SIGTERM
    with suppress(KeyError, ValueError):
        named = Signals(int(name)) if name.isdigit() else Signals[name if name.startswith("SIG") else f"SIG{name}"]
    if masks is None:
        return named
    heeded = masks.caught | masks.blocked  # what is blocked is waited for, as in tini (`docker run --init`)
    return next((number for number in (named, SIGTERM, SIGINT) if heeded >> (number - 1) & 1), None)


def find_mounts(details: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return what of the host a container has, by the engine's `inspect`."""
    rows = (each for each in details.get("Mounts") or () if each.get("Source"))
    return tuple(Mount(each["Source"], PurePath(each["Destination"]), bool(each["RW"])) for each in rows)


def find_published_ports(details: Mapping[str, Any]) -> frozenset[int]:
    """Return the host's ports that a container publishes when it runs, by the engine's `inspect`."""
    kept, now = details.get("HostConfig") or {}, details.get("NetworkSettings") or {}
    places = (kept.get("PortBindings"), now.get("Ports"))
    bound = (binding for each in places for bindings in (each or {}).values() for binding in bindings or ())
    return frozenset(int(port) for binding in bound if (port := binding.get("HostPort") or "").isdigit())
