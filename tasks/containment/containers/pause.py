"""§2, §3 for the containers that the block names: pause them, end them with receipts, check that none is left."""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tasks.containment.containers.kept import config_path, kept_config, kept_configs
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.containment.receipt import FrozenContainer
from tasks.custody.errors import ContainerGone, EngineError
from tasks.custody.incident.description import leads_to
from tasks.host.container.docker_engine import Engine
from tasks.host.container.membership import Container, belongs, find_living, find_published_ports
from tasks.host.container.mounts import ContainerView
from tasks.host.process.process import descendants
from tasks.prestart.journal import resume_containers, write_containers
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, with_earlier
from tasks.runtime.state import IncidentState
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_ROUNDS: Final = 8
_KILL_SECONDS: Final = 10.0
_AT_ONCE: Final = 8
_MOST_STARTS: Final = 16
_BETWEEN_STARTS: Final = "restarting"
_SERVED: Final = "EvacuationServed"
"""In a kept configuration: on the host's network, its processes listened on the API's port."""
_STARTS: Final = "EvacuationStarts"
"""In a kept configuration of the API's container: command, variables and folder of each process of the API."""


class WorkloadContainers:
    """The containers of an incident's workload. The engine is opened on first use; EngineError where it fails."""

    def __init__(self, context: RunContext) -> None:
        """Ask nothing yet."""
        self._adapters, self._workload, self._log = context.adapters, context.workload, context.log
        self.state, self._home, self._early = context.state, context.directory.path, context.cordon_files.early

    @property
    def engine(self) -> Engine:
        """The container engine."""
        return self._adapters.engine

    def find(self) -> list[Container]:
        """Return every live container of the workload, except those that our recovery started."""
        if not self._workload.containers:
            return []
        recovered = {each.id for each in self.state.recovered_containers.read()}
        found = find_living(self.engine, self._workload.containers)
        return [container for container in found if container.id not in recovered]

    def freeze(
        self, early: Mapping[ContainerIdentity, datetime] = MappingProxyType({})
    ) -> tuple[tuple[FrozenContainer, ...], str]:
        """Pause all, until a look finds no new one; return them, and any error of the engine.

        An `early` freeze has paused some, and when. Those that the block does not name now are resumed.
        """
        fresh: dict[ContainerIdentity, FrozenContainer] = {}
        trouble = ""
        try:
            for _ in range(_ROUNDS):
                seen = self.find()
                new = [each for each in seen if each.identity not in fresh or each.state == _BETWEEN_STARTS]
                if not new:
                    break
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    paused = pool.map(lambda each: self.freeze_one(each, early.get(each.identity)), new)
                    fresh |= {each.identity: each for each in paused}
        except EngineError as error:
            trouble = str(error)
            self._log.write("engine not asked", self.engine.place, reason=trouble, denied=trouble)
        everyone = with_earlier(frozen_containers(self.state), fresh)
        self.state.frozen_containers.write(everyone)
        for each in fresh.values():
            details = {"name": each.name, "image": each.image, "why": each.why, "denied": each.denied}
            self._log.write("container paused", each.identity.id, **details, at=str(each.paused_at))
        if early:
            others = early.keys() - {each.identity for each in everyone}
            with suppress(OSError):
                write_containers(self._early, {identity: early[identity] for identity in others})
            trouble = trouble or "; ".join(resume_containers(self._early, self.engine, others))
        return tuple(everyone), trouble

    def freeze_one(self, container: Container, since: datetime | None = None) -> FrozenContainer:
        """Pause one. One that is between two starts is killed, and its restart forbidden.

        `since` is when an early freeze has paused it, and counts if it is still paused.
        """
        before = since if container.state == "paused" else None
        seen, denied, paused_at = datetime.now(UTC), "", None
        try:
            if container.state == _BETWEEN_STARTS:
                self._keep_config(container)
                _keep_down(self.engine, container)
            else:
                self.engine.pause(container.id)
                paused_at = before or datetime.now(UTC)
            self._keep_config(container)
        except ContainerGone:
            pass
        except EngineError as error:
            denied = error.got
        return FrozenContainer(
            identity=container.identity,
            name=container.name,
            image=container.image,
            restart=container.restart,
            auto_remove=container.auto_remove,
            why=next(entry for entry in self._workload.containers if belongs(container, entry)),
            seen_at=seen,
            paused_at=paused_at,
            denied=denied,
            stood=container.state == "paused" and before is None,
        )

    def _keep_config(self, container: Container) -> None:
        """Save what is needed to create the container again, as it was before any change. The first copy counts.

        It contains the workload's secrets: only we can read it, and it is never sent.
        """
        path = config_path(self._home, container.identity)
        if path.exists():
            return
        config, port = self.engine.inspect(container.id), leads_to(self._workload.api_address)[1]
        if _is_on_the_host(config):
            owners = self._adapters.host.owners(port)
            config[_SERVED] = any(each.process and each.process.container == container.id for each in owners)
        if _is_of_api(config, port, self._workload.api_pattern):
            config[_STARTS] = self._read_starts(container)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(json.dumps(config).encode())
        except OSError as error:
            path.unlink(missing_ok=True)
            self._log.write("configuration lost", container.id, reason=str(error))
            logger.error("%s cannot be made again as it was: %s", container.summary, error)  # noqa: TRY400

    def _read_starts(self, container: Container) -> list[dict[str, Any]]:
        """Return how the API's processes in a container run, as far as that may be read: an entry may have set more.

        They are those that the block's pattern matches, with what they have started, or else all; without the training.
        """
        snapshot = self._adapters.host.snapshot() if container.pid else {}
        below = {container.pid, *descendants(snapshot, [container.pid])} & snapshot.keys()
        inside = {pid for pid in below if snapshot[pid].container == container.id}

        def match(pattern: str) -> set[int]:
            found = {pid for pid in inside if pattern and re.search(pattern, snapshot[pid].line)}
            return found | (inside & descendants(snapshot, found))

        training = match(self._workload.training_pattern)
        apis = (match(self._workload.api_pattern) or inside) - training
        rows = list[dict[str, Any]]()
        for pid in sorted(apis)[:_MOST_STARTS]:
            with suppress(OSError):
                block, process = read_kernel(f"/proc/{pid}/environ", ENVIRONMENT), snapshot[pid]
                words = os.fsdecode(block).split("\0") if len(block) < ENVIRONMENT else []  # else not read whole
                rows.append({"command": [*process.command], "environment": words, "cwd": process.cwd})
        return rows

    def read_views(self) -> Iterator[ContainerView]:
        """Yield how the paused containers saw the host: one that has ended may be gone.

        One whose configuration could not be kept is left out: the log says so.
        """
        for identity in frozen_containers(self.state):
            with suppress(OSError):
                yield ContainerView.of(kept_config(self._home, identity))

    def find_api(self, port: int) -> FrozenContainer | None:
        """Return the API's paused container, by its port; on the host's network by who listened, or its command."""
        for each in reversed(containers_of(self.state)):
            with suppress(OSError):
                config = kept_config(self._home, each.identity)
                if _is_of_api(config, port, self._workload.api_pattern):
                    return each
        return None

    def restore_restart_policy(self, was: ContainerIdentity, id_: str) -> str:
        """Restore the restart policy that `was` had before we disabled it; return what failed, empty if nothing did."""
        with suppress(ContainerGone, OSError):
            policy = kept_config(self._home, was)["HostConfig"]["RestartPolicy"]
            if policy.get("Name") not in {None, "", "no"}:
                try:
                    self.engine.allow_restart(id_, policy)
                except EngineError as error:
                    self._log.write("restart policy not restored", id_, policy=policy["Name"], reason=str(error))
                    return f"that container {id_[:12]} starts by itself as before ({policy['Name']}): {error}"
                self._log.write("restart policy restored", id_, policy=policy["Name"])
        return ""

    def tell_living(self) -> tuple[str, ...]:
        """Return a line on each that may run something, paused ones too, or that this is unknown."""
        entries = self._workload.containers
        try:
            # the engine's list may lag behind the single containers
            living = [each for each in self.find() if self._is_alive(each.identity.id)]
            named = {each.id: ", ".join(entry for entry in entries if belongs(each, entry)) for each in living}
            lines = {each.id: f"{each.summary} is {each.state} ({named[each.id]})" for each in living}
            for id_ in sorted(paused_ids(self.state) - lines.keys()):  # by id: name and start may be others now
                if (now := self.engine.get_container(id_)) and now.alive:
                    lines[id_] = f"{now.summary} was paused by us and is {now.state}"
        except EngineError as error:
            return (f"whether its containers run is not known: {error}",)
        return tuple(lines.values())

    def select_ended(self, ids: Iterable[str]) -> frozenset[str]:
        """Return those that the engine does not call alive; none if it fails, which `tell_living` tells."""
        with suppress(EngineError):
            return frozenset(id_ for id_ in ids if not self._is_alive(id_))
        return frozenset()

    def _is_alive(self, id_: str) -> bool:
        now = self.engine.get_container(id_)
        return now is not None and now.alive


def _keep_down(engine: Engine, container: Container) -> None:
    """Forbid restarts, repeatedly until the container is down or in another life, because a start may be under way."""

    def is_down() -> bool:
        now = engine.get_container(container.id)
        if not (now and now.alive and now.identity == container.identity):
            return True
        with suppress(ContainerGone):
            engine.forbid_restart(container.id)
            engine.signal(container.id, "SIGKILL")
        return False

    poll_until(is_down, _KILL_SECONDS)


def keeps_api(home: Path, port: int, pattern: str) -> bool:
    """Return whether an incident has paused a container of the API, which its folder then keeps."""
    for config in kept_configs(home):
        with suppress(KeyError):
            if _is_of_api(config, port, pattern):
                return True
    return False


def starts_kept(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how the API's processes ran, by a kept configuration; empty if that was not to be read."""
    return list(config.get(_STARTS) or [])


def containers_of(state: IncidentState) -> list[FrozenContainer]:
    """Return every container that this incident has paused, in any boot."""
    return [each for journal in state.frozen_containers.of_boots() for each in journal]


def _is_on_the_host(config: dict[str, Any]) -> bool:
    return bool(config.get("HostConfig", {}).get("NetworkMode", "") == "host")


def _is_of_api(config: dict[str, Any], port: int, pattern: str) -> bool:
    """Return whether a container was the API's, by its port; on the host's network by who listened, or its command."""
    is_published = port in find_published_ports(config)
    if is_published or not _is_on_the_host(config):
        return is_published
    return bool(config.get(_SERVED) or re.search(pattern, " ".join([config["Path"], *config["Args"]])))


def paused_ids(state: IncidentState) -> set[str]:
    """Return the ids of what this incident has paused in this boot, without those that our recovery started."""
    recovered = {each.id for each in state.recovered_containers.read()}
    return {each.id for each in frozen_containers(state)} - recovered
