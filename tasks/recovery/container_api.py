"""§7: start the API's container again, or make it again from the configuration that was kept."""

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Final

from tasks.containment.containers import kept_config
from tasks.custody.containment.container import Container, ContainerIdentity, FrozenContainer, publishes
from tasks.custody.containment.process import Identity
from tasks.custody.errors import ContainerGone, EngineError
from tasks.runtime.context import RunContext
from tasks.runtime.state import IncidentState
from tasks.system.processes import start_of

_GONE_SECONDS: Final = 10.0
_BLOCK: Final = 1 << 20


def containers_of(state: IncidentState) -> list[FrozenContainer]:
    """Every container that this incident has paused, before a reboot too."""
    return [each for journal in state.frozen_containers.of_boots() for each in journal]


def api_container(context: RunContext, port: int) -> FrozenContainer | None:
    """The paused container that was the API: it published the API's port, or runs its command on the host's network."""
    for each in reversed(containers_of(context.state)):
        with suppress(OSError):
            about = kept_config(context.directory.path, each.identity)
            if publishes(about, port) or _is_api_on_the_host(about, context.workload.api_pattern):
                return each
    return None


def _is_api_on_the_host(about: dict[str, Any], pattern: str) -> bool:
    command = " ".join([about["Path"], *about["Args"]])
    return about["HostConfig"]["NetworkMode"] == "host" and bool(re.search(pattern, command))


def restore_restart_policies(context: RunContext) -> None:
    """Give every container that still exists the restart policy back that the stop took from it."""
    for each in containers_of(context.state):
        _restore_restart_policy(context, each.identity, each.identity.id)


def _restore_restart_policy(context: RunContext, was: ContainerIdentity, id_: str) -> None:
    with suppress(ContainerGone, OSError):
        policy = kept_config(context.directory.path, was)["HostConfig"]["RestartPolicy"]
        if policy.get("Name") not in {None, "", "no"}:
            context.adapters.engine.allow_restart(id_, policy)
            context.log.write("restart policy restored", id_, policy=policy["Name"])


class ContainerApi:
    """The API as a container."""

    def __init__(self, context: RunContext, was: FrozenContainer) -> None:
        """Nothing is started yet."""
        self.context, self.engine, self.was = context, context.adapters.engine, was
        self.container = was.name
        self.log = f"docker logs {was.name}"
        self._id, self._made = "", False

    @property
    def root(self) -> str:
        """Its working directory."""
        return now.folder if (now := self._now) else "/"

    @property
    def _models(self) -> str:
        return posixpath.join(self.root, "models")

    @property
    def _now(self) -> Container | None:
        return self.engine.get_container(self._id) if self._id else None

    @property
    def identity(self) -> Identity:
        """Its first process."""
        pid = now.pid if (now := self._now) else 0
        with suppress(ProcessLookupError):
            return Identity(pid, start_of(pid))
        return Identity(pid, 0)

    def again(self) -> bool:
        """Look among those that this incident has brought back."""
        earlier = [each.id for each in self.context.state.recovered_containers.read()]
        self._id = next((id_ for id_ in earlier if (now := self.engine.get_container(id_)) and now.alive), "")
        return bool(self._id)

    @property
    def words(self) -> Iterable[str]:
        """Its command and its environment, as they were kept."""
        about = kept_config(self.context.directory.path, self.was.identity)
        return [about["Path"], *about["Args"], *(about["Config"].get("Env") or [])]

    @property
    def folder(self) -> "ContainerApi":
        """Its own."""
        return self

    def prepare(self) -> None:
        """Make it again with every option that it had, if it is gone: once, for the name is then taken."""
        was = self.was.identity
        self._made = self.engine.get_container(was.id) is None
        self._id = self._earlier() or self._create() if self._made else was.id

    def _earlier(self) -> str:
        """The one that an earlier recovery made, and left for its logs."""
        made = self.context.state.made_containers.read()
        there = (now for id_ in reversed(made) if (now := self.engine.get_container(id_)))
        return next((now.id for now in there if now.name == self.was.name), "")

    def _create(self) -> str:
        id_ = self.engine.create(self.was.name, kept_config(self.context.directory.path, self.was.identity))
        made = self.context.state.made_containers.read()
        self.context.state.made_containers.write([*made, id_])
        return id_

    def start(self) -> None:
        """As `docker start`."""
        self.engine.start(self._id)
        how = "made anew" if self._made else "started"
        self.context.log.write("restarted", self._id, name=self.was.name, image=self.was.image, how=how)

    def lives(self) -> bool:
        """Ask the engine."""
        return (now := self._now) is not None and now.state == "running"

    def listens(self, port: int) -> bool:
        """The engine itself says that the port leads to it, or one of its processes listens on the host's network."""
        if published_now(self.engine.inspect(self._id), port):
            return True
        processes = self.context.adapters.host.snapshot().values()
        return any(process.container == self._id and port in _ports(process.pid) for process in processes)

    def known_as(self, name: str) -> str:
        """By the path as the container knows it."""
        return inside(self._models, name)

    def listed(self, sealed: Iterable[str]) -> list[str]:
        """What was collected out of it and lies there now."""
        known = ((name, self.known_as(name)) for name in sealed if name.startswith("/"))
        return [name for name, path in known if path and self.engine.archive(self._id, path)]

    def appeared(self, before: Collection[str]) -> list[str]:
        """Unseen: only what was collected is listed."""
        del before
        return []

    def digest(self, name: str) -> str:
        """Read through the engine; nothing for a folder, a device, or a link that leads elsewhere."""
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
        """The container, and its first process: the cordon counts as released by our own recovery."""
        if now := self._now:
            if self._made and now.restart in {"", "no"}:
                _restore_restart_policy(self.context, self.was.identity, now.id)
            kept = [*self.context.state.recovered_containers.read(), now.identity]
            self.context.state.recovered_containers.write(kept)
            self.context.state.recovered.write([*self.context.state.recovered.read(), self.identity])

    def end(self) -> None:
        """Its restart forbidden first, else its end would be its beginning. Only one that never ran is removed."""
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


def inside(models: str, name: str) -> str:
    """The path in the container that a name leads to; empty if it leads out of its models folder."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(models), name))
    return path if path.startswith(f"{models}/") else ""


def published_now(about: dict[str, Any], port: int) -> bool:
    """Whether the engine has bound this port of the host for the container, by what it says of a running one."""
    bound = (about["NetworkSettings"].get("Ports") or {}).values()
    return any(int(binding["HostPort"]) == port for bindings in bound for binding in bindings or ())


def _ports(pid: int) -> set[int]:
    import psutil

    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("inet")
        return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return set()
