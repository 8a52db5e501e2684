"""§7: start the API's container again, or make it again from the configuration that was kept."""

import hashlib
import posixpath
import re
from contextlib import suppress
from typing import Any, Final

from pydantic import TypeAdapter

from tasks.containment.containers import kept_config
from tasks.custody.containment.container import Container, ContainerIdentity, FrozenContainer, publishes
from tasks.custody.containment.process import Identity
from tasks.custody.errors import ContainerGone, EngineError
from tasks.custody.evidence.acquisition import StoredFile
from tasks.incident.layout import FROZEN_CONTAINERS, RECOVERED, RECOVERED_CONTAINERS, of_any_boot
from tasks.recovery.api_client import Api, failure, meant, say_served
from tasks.recovery.process_api import path_of
from tasks.runtime.context import RunContext
from tasks.system.processes import start_of

_GONE_SECONDS: Final = 10.0
_BLOCK: Final = 1 << 20


def containers_of(context: RunContext) -> list[FrozenContainer]:
    """Every container that this incident has paused, before a reboot too."""
    journals = sorted(context.home.glob(of_any_boot(FROZEN_CONTAINERS)), key=lambda path: path.stat().st_mtime)
    kind = TypeAdapter(list[FrozenContainer])
    return [each for journal in journals for each in kind.validate_json(journal.read_bytes())]


def api_container(context: RunContext, port: int) -> FrozenContainer | None:
    """The paused container that was the API: it published the API's port, or runs its command on the host's network."""
    for each in reversed(containers_of(context)):
        with suppress(OSError):
            about = kept_config(context, each.identity)
            if publishes(about, port) or _is_api_on_the_host(about, context.workload.api_pattern):
                return each
    return None


def _is_api_on_the_host(about: dict[str, Any], pattern: str) -> bool:
    command = " ".join([about["Path"], *about["Args"]])
    return about["HostConfig"]["NetworkMode"] == "host" and bool(re.search(pattern, command))


def restore_restart_policies(context: RunContext) -> None:
    """Give every container that still exists the restart policy back that the stop took from it."""
    for each in containers_of(context):
        with suppress(ContainerGone, OSError):
            policy = kept_config(context, each.identity)["HostConfig"]["RestartPolicy"]
            if policy.get("Name") not in {None, "", "no"}:
                context.engine.allow_restart(each.identity.id, policy)
                context.log.write("restart policy restored", each.identity.id, policy=policy["Name"])


class ContainerApi:
    """The API as a container."""

    def __init__(self, context: RunContext, was: FrozenContainer) -> None:
        """Nothing is started yet."""
        self.context, self.engine, self.was = context, context.engine, was
        self.container = was.name
        self.log = f"docker logs {was.name}"
        self._id = ""

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
        earlier = [each.id for each in self.context.recovered_containers()]
        self._id = next((id_ for id_ in earlier if (now := self.engine.get_container(id_)) and now.alive), "")
        return bool(self._id)

    def start(self) -> None:
        """As `docker start` if it still exists, else as `docker run` with every option that it had."""
        was = self.was.identity
        there = self.engine.get_container(was.id)
        self._id = was.id if there else self.engine.create(self.was.name, kept_config(self.context, was))
        self.engine.start(self._id)
        how = "started" if there else "made anew"
        self.context.log.write("restarted", self._id, name=self.was.name, image=self.was.image, how=how)

    def lives(self) -> bool:
        """Ask the engine."""
        return (now := self._now) is not None and now.state == "running"

    def listens(self, port: int) -> bool:
        """The engine itself says that the port leads to it, or one of its processes listens on the host's network."""
        if published_now(self.engine.inspect(self._id), port):
            return True
        processes = self.context.host.snapshot().values()
        return any(process.container == self._id and port in _ports(process.pid) for process in processes)

    def load(self, api: Api, model: StoredFile) -> tuple[str, str, str]:
        """By the path as the container knows it; what it serves is read through the engine, not from its word."""
        folder = now.folder if (now := self._now) else "/"
        models = posixpath.join(folder, "models")
        path = inside(models, path_of(model))
        if not path:
            raise failure(f"the manifest's newest model to be a file in {models}", path_of(model))
        api.must("POST", "/reload", f"reload {path}", params={"path": path})
        said = say_served(api)
        serves = inside(models, meant(said, path))
        if not serves:
            raise failure(f"the API to serve a file in {models} of its container", repr(said))
        return f"{self.container}:{serves}", self._digest(models, serves), said

    def _digest(self, models: str, path: str) -> str:
        archive = self.engine.archive(self._id, path)
        if archive and archive.link and inside(models, archive.link):
            archive = self.engine.archive(self._id, archive.link)
        if archive is None:
            raise failure(f"a file at {path} in the container", "nothing")
        hashed = hashlib.sha256()
        with archive.opened() as tar:
            content = tar.extractfile(member) if (member := tar.next()) and member.isreg() else None
            if content is None:
                raise failure(f"a file at {path} in the container", "a folder, a device or a link that leads elsewhere")
            while block := content.read(_BLOCK):
                hashed.update(block)
        return hashed.hexdigest()

    def keep(self) -> None:
        """The container, and its first process: the cordon counts as released by our own recovery."""
        if now := self._now:
            kept = [*self.context.recovered_containers(), now.identity]
            self.context.journal(RECOVERED_CONTAINERS, list[ContainerIdentity], kept)
            self.context.journal(RECOVERED, list[Identity], [*self.context.recovered(), self.identity])

    def end(self) -> None:
        """Its restart forbidden first, else its end would be its beginning."""
        now = self._now
        if now is None or not now.alive:
            return
        with suppress(EngineError, TimeoutError):
            if now.restart != "no" and not now.auto_remove:
                self.engine.forbid_restart(now.id)
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
