"""§7: start the API's container again, or create it again from the saved configuration."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import PurePath
from typing import Any, Final, Self, TypeAlias

from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers, containers_of
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.errors import EngineError
from tasks.custody.evidence.pattern import matches_any, matches_inside
from tasks.custody.models.contract import find_named_models
from tasks.host.container.membership import Container, Mount
from tasks.host.container.mounts import paths_inside, place_outside, real_mounts
from tasks.host.process.process import ancestry
from tasks.host.process.table import start_of
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.outside_files import find_mounted
from tasks.recovery.process_api import is_no_api, listening_ports, tell_others
from tasks.runtime.context import RunContext

_GONE_SECONDS: Final = 10.0
_BLOCK: Final = 1 << 20


def restore_restart_policies(ours: WorkloadContainers, stays_down: str = "") -> tuple[str, ...]:
    """Restore the restart policies that the stop disabled, but that of `stays_down`, by name; return what failed."""
    identities = (each.identity for each in containers_of(ours.state) if each.name != stays_down)
    return tuple(filter(None, (ours.restore_restart_policy(each, each.id) for each in identities)))


class ContainerApi:
    """The API as a container."""

    def __init__(self, context: RunContext, name: str, image: str, was: ContainerIdentity | None = None) -> None:
        """Keep the container to start: the one that it `was`, or a new one."""
        self.context, self.engine, self.was = context, context.adapters.engine, was
        self.container, self.image = name, image
        self.log = f"docker logs {name}"
        self._id, self._is_new = "", False

    @property
    def root(self) -> str:
        """Working directory of the container, which may not be made yet."""
        return now.folder if (now := self._now) else self.config.get("Config", {}).get("WorkingDir") or "/"

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """What of the host the container has, by real paths."""
        return real_mounts(self.config)

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
        containers = (now for id_ in earlier if (now := self.engine.get_container(id_)) and now.alive)
        self._id = next((now.id for now in containers if self._is_ours(now)), "")
        return bool(self._id)

    def _is_ours(self, now: Container) -> bool:
        return now.name == self.container or (self.was is not None and now.id == self.was.id)

    @property
    def config(self) -> dict[str, Any]:
        """The container as the engine's `inspect` returns it, here as saved."""
        return kept_config(self.context.directory.path, self.was) if self.was else {}

    @property
    def words(self) -> Iterable[str]:
        """Command and environment of the container."""
        config = self.config
        return [config["Path"], *config["Args"], *(config["Config"].get("Env") or [])]

    def find_outside(self) -> set[str]:
        """Return the files outside the root that the container mounts."""
        return find_mounted((each.source for each in self.mounts), self.context.workload.root)

    @property
    def folder(self) -> Self:
        """The container itself is the folder of its models."""
        return self

    def prepare(self) -> None:
        """Create the container, if there is none, with its saved options. Idempotent."""
        container = self.engine.get_container(self.was.id) if self.was else None
        self._is_new = container is None
        self._id = container.id if container else self._earlier()
        if not self._id:
            self._id, journal = self.engine.create(self.container, self.config), self.context.state.made_containers
            journal.write([*journal.read(), self._id])

    def _earlier(self) -> str:
        """Return the container that an earlier recovery created and left for its logs."""
        ids = self.context.state.made_containers.read()
        containers = (now for id_ in reversed(ids) if (now := self.engine.get_container(id_)))
        return next((now.id for now in containers if now.name == self.container), "")

    def start(self) -> None:
        """Start the container."""
        self.engine.start(self._id)
        how = "started" if not self._is_new else "made again" if self.was else "made of api_image"
        self.context.log.write("restarted", self._id, name=self.container, image=self.image, how=how)

    def lives(self) -> bool:
        """Return whether the engine says that the container runs."""
        return (now := self._now) is not None and now.state == "running"

    def listens(self, port: int) -> bool:
        """Return whether the container serves this port: published by the engine, or on the host's network."""
        bound = (self.engine.inspect(self._id)["NetworkSettings"].get("Ports") or {}).values()
        if any(int(binding["HostPort"]) == port for bindings in bound for binding in bindings or ()):
            return True
        processes = self.context.adapters.host.snapshot().values()
        return any(process.container == self._id and port in listening_ports(process.pid) for process in processes)

    def find_brought(self) -> tuple[str, ...]:
        """Return what runs in the container besides the API: its image and command may start a training, or more.

        The API is what listens or has its pattern, what repeats that command, and what is above these.
        """
        block, host = self.context.workload, self.context.adapters.host
        id_, snapshot = self._id or (self.was.id if self.was else ""), host.snapshot()
        own = [each for each in snapshot.values() if id_ and each.container == id_]
        able = [each for each in own if not is_no_api(each, block)]
        served = [each for each in able if re.search(block.api_pattern, each.line) or host.ports([each.identity])]
        above = ancestry(snapshot, [each.pid for each in served])
        words = [each.command[:2] for each in served]
        apis = [each for each in able if each.pid in above or each.command[:2] in words]
        return tell_others(own, apis, block)

    def paths(self, name: str) -> list[str]:
        """Return the paths of a model inside the container: where the root is mounted, else in its models folder."""
        path = PurePath(os.path.normpath(self._real_root / name))
        if name.startswith("/"):
            mounted = [str(path)] if self._is_mounted(path) else []
        else:
            mounted = paths_inside(path, self.mounts) if path.is_relative_to(self._real_root) else []
        at = posixpath.normpath(posixpath.join(self.root, name))
        named = at if self._is_named(at) else inside(posixpath.join(self.root, "models"), name)
        return mounted or [*filter(None, [named])]

    def _is_named(self, path: str) -> bool:
        """Return whether a pattern names a full path of the container, from its root or its working directory."""
        return matches_inside(path, self.root, self.context.workload.models)

    @property
    def _real_root(self) -> PurePath:
        return PurePath(os.path.realpath(self.context.workload.root))

    def _is_mounted(self, path: PurePath) -> bool:
        place = place_outside(path, self.mounts)
        return place is not None and place.is_relative_to(self._real_root)

    def path_in_api(self, name: str) -> str:
        """Return the path of a model inside the container, also of one in a folder of the root that is mounted."""
        return next(iter(self.paths(name)), "")

    def list_names(self, sealed: Iterable[str]) -> list[str]:
        """Return the sealed models that exist in the container now.

        Of two names of one file that in the root counts where its folder is mounted, else that in a container.
        """
        patterns, names, own = self.context.workload.models, dict[str, str](), posixpath.join(self.root, "models")
        for name in sorted(sealed):  # those in a container come first
            is_inside = self._is_named(name) or bool(inside(own, name))
            is_model = is_inside if name.startswith("/") else matches_any(name, patterns)
            if is_model and (path := self.path_in_api(name)):
                names[path] = name if self._is_mounted(PurePath(path)) else names.get(path, name)
        return [name for path, name in names.items() if self.engine.archive(self._id, path)]

    def digest(self, name: str) -> str:
        """Hash a file through the engine; empty for a folder, a device, or a link that leads elsewhere."""
        path = self.path_in_api(name)
        archive = self.engine.archive(self._id, path) if path else None
        if archive and archive.link:
            target = self.path_in_api(archive.link)
            archive = self.engine.archive(self._id, target) if target else None
        if archive is None:
            return ""
        hasher = hashlib.sha256()
        with archive.open_tar() as tar:
            content = tar.extractfile(member) if (member := tar.next()) and member.isreg() else None
            if content is None:
                return ""
            while block := content.read(_BLOCK):
                hasher.update(block)
        return hasher.hexdigest()

    def keep(self) -> None:
        """Record the container and its first process, so that the cordon counts as released by our recovery."""
        if now := self._now:
            if self.was and self._is_new and now.restart in {"", "no"}:
                WorkloadContainers(self.context).restore_restart_policy(self.was, now.id)
            identities = [*self.context.state.recovered_containers.read(), now.identity]
            self.context.state.recovered_containers.write(identities)
            self.context.state.recovered.write([*self.context.state.recovered.read(), self.identity])

    def end(self) -> None:
        """Stop the container, with its restart policy disabled first. Remove it only if it never ran."""
        with suppress(EngineError, TimeoutError):
            if (now := self._now) is None:
                return
            if self._is_new and now.state == "created":
                self.engine.remove(now.id)
                return
            if now.restart not in {"", "no"} and not now.auto_remove:
                self.engine.forbid_restart(now.id)
            if now.alive:
                self.engine.signal(now.id, "SIGKILL")
                self.engine.end_of(now.id, _GONE_SECONDS)


ModelFolder: TypeAlias = HostFolder | ContainerApi
"""Where the API's models lie, and the names by which the API knows them."""


def find_named(folder: ModelFolder, words: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the models that the words of a start command name, by their paths where the API runs."""
    places = {name: folder.paths(name) or [name] for name in names}
    named = {*find_named_models(words, folder.root, [path for paths in places.values() for path in paths])}
    return [name for name, paths in places.items() if named.intersection(paths)]


def inside(models: str, name: str) -> str:
    """Return a model's path in the container; empty if it lies outside the models folder."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(models), name))
    return path if path.startswith(f"{models}/") else ""
