"""Hold what a run of an incident works with: run, directories, state, log, adapters and store.

See docs/adr/0030.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tasks.custody.fleet.host_order import Order
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.host.container.docker_engine import DockerEngine, Engine
from tasks.host.container.rehearsal import RehearsalEngine
from tasks.host.host import Host, LinuxHost
from tasks.host.rehearsal import RehearsalHost
from tasks.incident.directory import open_cordon_files, open_directory
from tasks.incident.layout import CUSTODY_LOG, SALT
from tasks.incident.paths import CordonFiles, IncidentDirectory
from tasks.incident.run_lock import owner, sign
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.prefect_side.scheduler import PrefectScheduler, RehearsalScheduler, Scheduler
from tasks.runtime.actor import BY_HAND, actor
from tasks.runtime.state import IncidentState
from tasks.runtime.store_access import StoreAccess
from tasks.system.cancellation import Cancellation, still_acts
from tasks.system.files.disk_reserve import give, give_all
from tasks.system.redaction import redact_for

if TYPE_CHECKING:
    from datetime import datetime

    from blocks.workload import Workload
    from tasks.custody.containment.identity import Identity
    from tasks.host.listening import Listening

Policy: TypeAlias = Literal["graceful", "kill"]
Suspects: TypeAlias = Literal["name", "include"]
Unknowns: TypeAlias = Literal["name", "end"]


@dataclass(frozen=True)
class RunInfo:
    """A run of an incident: its id in Prefect, and its parameters.

    `number` of its record and `volume` of its evidence are known once the incident is open. `order` is a fleet's.
    """

    id: str
    dry_run: bool = False
    policy: Policy = "graceful"
    suspects: Suspects | None = None
    unknown: Unknowns | None = None
    trigger: str = BY_HAND
    number: int = 0
    volume: int = 0
    order: Order | None = None

    @property
    def includes_suspects(self) -> bool:
        """True if suspects are frozen and ended too: as asked, else under policy kill."""
        return (self.suspects or ("include" if self.policy == "kill" else "name")) == "include"

    @property
    def ends_unknown(self) -> bool:
        """True if processes in the root that nobody knows are frozen and ended too: only if asked for."""
        return self.unknown == "end"


@dataclass
class FirstTry:
    """What the first try of a step did that has failed, for the second in the same run; later runs have the journals.

    When the freeze began, in ticks of the kernel, and when it has `stopped` each process, lest that count as one that
    stood before. Whom the stop has `signalled`, lest a second signal break their end off, and when the grace ends, in
    monotonic seconds. The `watch`, with the sources that stand. Why the record was `not_sent`, as the
    log has it. Each step forgets it at its end.
    """

    freeze_began: int | None = None
    stopped: "dict[Identity, datetime]" = field(default_factory=dict)
    signalled: "set[Identity]" = field(default_factory=set)
    grace_until: float | None = None
    watch: Any = None
    not_sent: str = ""


class Adapters:
    """The host, the container engine (connected to on first use), and Prefect's scheduler."""

    def __init__(self, host: Host, scheduler: Scheduler, open_engine: Callable[[], Engine]) -> None:
        """Keep the parts. Opens nothing."""
        self.host, self.scheduler, self._open_engine = host, scheduler, open_engine

    @cached_property
    def engine(self) -> Engine:
        """The container engine, opened on first use."""
        return self._open_engine()

    def close(self) -> None:
        """Close the connection to the engine, if there is one. Idempotent."""
        if engine := self.__dict__.pop("engine", None):
            engine.close()


def open_adapters(workload: "Workload", log: CustodyLog, *, dry_run: bool) -> Adapters:
    """Open the real adapters; for a dry run, ones that read the real host and only log their acts."""
    host, scheduler = LinuxHost(workload.api_port, root=workload.root), PrefectScheduler()
    engine = partial(DockerEngine, workload.docker_host)
    if not dry_run:
        return Adapters(host, scheduler, engine)
    twin = RehearsalHost(host, log)
    return Adapters(twin, RehearsalScheduler(scheduler, log), lambda: RehearsalEngine(engine(), log, twin.containers))


class RunContext:
    """What a run's steps are given. Made by `open_context`.

    Not a dataclass: Prefect walks dataclasses, and this holds locks and open files.
    """

    def __init__(  # noqa: PLR0913, PLR0917  the parts of a run
        self,
        incident: Incident,
        workload: "Workload",
        run: RunInfo,
        directory: IncidentDirectory,
        cordon_files: CordonFiles,
        log: CustodyLog,
        adapters: Adapters,
        store: StoreAccess,
        lock: int,
    ) -> None:
        """Keep the parts, and the time. `lock` is the open file that keeps other runs of the workload out.

        `losses` will say what the run began without, because nothing may delay its freeze; `written_since` which
        files were written after they were taken, `unrest` what was changed by nobody known.
        """
        self.incident, self.workload, self.run = incident, workload, run
        self.directory, self.cordon_files, self.log = directory, cordon_files, log
        self.adapters, self.store = adapters, store
        self.state = IncidentState(directory)
        self.cancelled, self.opened_at = Cancellation(), time.time()
        self.listening: Listening | None = None
        self.losses: list[str] = []
        self.written_since: tuple[str, ...] = ()
        self.unrest = ""
        self.first_try = FirstTry()
        self.waited_for_store, self.proven_records = 0.0, frozenset[str]()
        self._lock: int | None = lock

    def end_joins(self) -> None:
        """Let no alarm join an evacuation that is about to let the workload go: a failure from now on is news to it.

        An alarm then waits for the end of this run, unless what the incident has contained tells that it belongs to it.
        """
        if self._lock is not None and owner(self.directory.base) == "evacuation":
            sign(self._lock, "evacuation")

    def stop_listening(self) -> None:
        """End the witnesses: what changes from now on is a recovery's. Idempotent."""
        if self.listening:
            self.listening.end()
            self.listening = None

    def close(self) -> None:
        """End the witnesses. Release the workload's lock, the disk reserve and the engine. Idempotent.

        Of a dry run the record is kept, and no copy of the workload's files: these would fill the disk, plan by plan.

        While a step of a cancelled run still acts, the lock is kept until this process ends.
        """
        self.stop_listening()
        if self.run.dry_run:
            self.directory.remove_copies()
        give_all(self.directory.reserve)
        self.adapters.close()
        if self._lock is not None and not still_acts():
            os.close(self._lock)
            self._lock = None


def open_context(incident: Incident, workload: "Workload", run: RunInfo, saved: SavedStore, lock: int) -> RunContext:
    """Create the incident's folder if this run opens it, open its custody log, and open the adapters."""
    at = open_directory(workload, incident, dry_run=run.dry_run)
    redact_for(at.path / SALT, workload.patterns, (incident.id, incident.reason))
    trigger, give_way = actor(run.id, run.trigger), lambda size: give(at.reserve, size)
    log = CustodyLog(at.path / CUSTODY_LOG, trigger, make_room=give_way)
    run = replace(run, number=at.next_number(), volume=at.open_volume())
    files = open_cordon_files(workload, at, dry_run=run.dry_run)
    adapters = open_adapters(workload, log, dry_run=run.dry_run)
    store = StoreAccess(saved, log, dry_run=run.dry_run)
    return RunContext(incident, workload, run, at, files, log, adapters, store, lock)
