"""§7: start the API's container again, or create it again from the saved configuration.

A new one of the block's image is in image_api.py.
"""

import hashlib
import posixpath
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Final, Self

from tasks.containment.containers import containers_of, kept_config, restore_restart_policy
from tasks.custody.containment.container import Container, FrozenContainer
from tasks.custody.containment.process import Identity
from tasks.custody.errors import EngineError
from tasks.recovery.api_client import failure
from tasks.runtime.context import RunContext
from tasks.system.processes import start_of

_GONE_SECONDS: Final = 10.0
_BLOCK: Final = 1 << 20


def restore_restart_policies(context: RunContext, stays_down: str = "") -> tuple[str, ...]:
    """Restore the restart policy that the stop disabled, for every container that still exists; return what failed.

    Not of the one named `stays_down`: the engine would start it beside the API that has taken its place.
    """
    there = (each for each in containers_of(context.state) if each.name != stays_down)
    failed = (restore_restart_policy(context, each.identity, each.identity.id) for each in there)
    return tuple(filter(None, failed))


class EngineApi:
    """The API as a container."""

    def __init__(self, context: RunContext, name: str) -> None:
        """Keep the container's name; starts nothing."""
        self.context, self.engine = context, context.adapters.engine
        self.container = name
        self._id, self._made = "", False

    @property
    def log(self) -> str:
        """How a person reads its output."""
        return f"docker logs {self.container}"

    @property
    def unproven(self) -> str:
        """Empty: it is started as it was."""
        return ""

    @property
    def root(self) -> str:
        """Working directory of the container."""
        return now.folder if (now := self._now) else "/"

    @property
    def _models(self) -> str:
        return posixpath.join(self.root, "models")

    @property
    def _now(self) -> Container | None:
        return self.engine.get_container(self._id) if self._id else None

    @property
    def identity(self) -> Identity:
        """Identity of the container's first process."""
        pid = now.pid if (now := self._now) else 0
        with suppress(ProcessLookupError):
            return Identity(pid, start_of(pid))
        return Identity(pid, 0)

    def again(self) -> bool:
        """Take a live container that an earlier recovery of this incident started; False if there is none."""
        earlier = [each.id for each in self.context.state.recovered_containers.read()]
        there = (now for id_ in earlier if (now := self.engine.get_container(id_)) and now.alive)
        if found := next(filter(self._is_ours, there), None):
            self._id, self.container = found.id, found.name
        return found is not None

    def _is_ours(self, now: Container) -> bool:
        """Return whether a recovery of this kind has started the container."""
        raise NotImplementedError

    @property
    def _about(self) -> dict[str, Any]:
        """The container's configuration, as the engine's `inspect` returns it."""
        raise NotImplementedError

    @property
    def words(self) -> Iterable[str]:
        """Command and environment of the container."""
        about = self._about
        return [about["Path"], *about["Args"], *(about["Config"].get("Env") or [])]

    @property
    def folder(self) -> Self:
        """The container itself is the folder of its models."""
        return self

    def _create(self) -> str:
        id_ = self.engine.create(self.container, self._about)
        made = self.context.state.made_containers.read()
        self.context.state.made_containers.write([*made, id_])
        return id_

    def lives(self) -> bool:
        """Return whether the engine says that the container runs."""
        return (now := self._now) is not None and now.state == "running"

    def listens(self, port: int) -> bool:
        """Return whether the container serves this port: published by the engine, or on the host's network."""
        if published_now(self.engine.inspect(self._id), port):
            return True
        processes = self.context.adapters.host.snapshot().values()
        return any(process.container == self._id and port in _ports(process.pid) for process in processes)

    def known_as(self, name: str) -> str:
        """Return the path of a model inside the container."""
        return inside(self._models, name)

    def listed(self, sealed: Iterable[str]) -> list[str]:
        """Return the sealed models that exist in the container now."""
        known = ((name, self.known_as(name)) for name in sealed if name.startswith("/"))
        return [name for name, path in known if path and self.engine.archive(self._id, path)]

    def appeared(self, before: Collection[str]) -> list[str]:
        """Return an empty list: only sealed files are visible in a container."""
        del before
        return []

    def digest(self, name: str) -> str:
        """Hash a file through the engine; empty for a folder, a device, or a link that leads elsewhere."""
        path = self.known_as(name)
        archive = self.engine.archive(self._id, path) if path else None
        if archive and archive.link:
            target = self.known_as(archive.link)
            archive = self.engine.archive(self._id, target) if target else None
        if archive is None:
            return ""
        hashed = hashlib.sha256()
        with archive.opened() as tar:
            content = tar.extractfile(member) if (member := tar.next()) and member.isreg() else None
            if content is None:
                return ""
            while block := content.read(_BLOCK):
                hashed.update(block)
        return hashed.hexdigest()

    def keep(self) -> None:
        """Record the container and its first process, so that the cordon counts as released by our recovery."""
        if now := self._now:
            kept = [*self.context.state.recovered_containers.read(), now.identity]
            self.context.state.recovered_containers.write(kept)
            self.context.state.recovered.write([*self.context.state.recovered.read(), self.identity])

    def end(self) -> None:
        """Stop the container, with its restart policy disabled first. Remove it only if it never ran."""
        with suppress(EngineError, TimeoutError):
            if (now := self._now) is None:
                return
            if self._made and now.state == "created":
                self.engine.remove(now.id)
                return
            if now.restart not in {"", "no"} and not now.auto_remove:
                self.engine.forbid_restart(now.id)
            if now.alive:
                self.engine.signal(now.id, "SIGKILL")
                self.engine.end_of(now.id, _GONE_SECONDS)


class ContainerApi(EngineApi):
    """The API as the container that it was."""

    def __init__(self, context: RunContext, was: FrozenContainer) -> None:
        """Keep the container to start."""
        super().__init__(context, was.name)
        self.was = was

    def _is_ours(self, now: Container) -> bool:
        return now.id == self.was.identity.id or now.name == self.was.name

    @property
    def _about(self) -> dict[str, Any]:
        return kept_config(self.context.directory.path, self.was.identity)

    def rehearse(self) -> str:
        """Name the container. One that removes itself needs its image to be made again."""
        if self.was.auto_remove and not self.engine.image(image := self._about["Image"]):
            raise failure(f"the image of container {self.was.name}, which removes itself when it ends", f"no {image}")
        return f"container {self.was.name}, {'made again' if self.was.auto_remove else 'started again'}"

    def prepare(self) -> None:
        """Create the container again with its saved options, if it is gone. Idempotent."""
        was = self.was.identity
        self._made = self.engine.get_container(was.id) is None
        self._id = self._earlier() or self._create() if self._made else was.id

    def _earlier(self) -> str:
        """Return the container that an earlier recovery created and left for its logs."""
        made = self.context.state.made_containers.read()
        there = (now for id_ in reversed(made) if (now := self.engine.get_container(id_)))
        return next((now.id for now in there if now.name == self.was.name), "")

    def start(self) -> None:
        """Start the container."""
        self.engine.start(self._id)
        how = "made again" if self._made else "started"
        self.context.log.write("restarted", self._id, name=self.was.name, image=self.was.image, how=how)

    def keep(self) -> None:
        """Give one that was made again its restart policy, and record it."""
        if self._made and (now := self._now) and now.restart in {"", "no"}:
            restore_restart_policy(self.context, self.was.identity, now.id)
        super().keep()


def inside(models: str, name: str) -> str:
    """Return a model's path in the container; empty if it lies outside the models folder."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(models), name))
    return path if path.startswith(f"{models}/") else ""


def published_now(about: dict[str, Any], port: int) -> bool:
    """Return whether a running container has this port of the host bound, from the engine's description of it."""
    bound = (about["NetworkSettings"].get("Ports") or {}).values()
    return any(int(binding["HostPort"]) == port for bindings in bound for binding in bindings or ())


def _ports(pid: int) -> set[int]:
    import psutil

    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("inet")
        return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return set()
