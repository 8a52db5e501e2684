"""Hold what one run of one incident works with: the run, its places, facts, log, adapters and store."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.incident.directory import open_cordon_files, open_directory
from tasks.incident.layout import CUSTODY_LOG
from tasks.incident.paths import CordonFiles, IncidentDirectory
from tasks.runtime.actor import BY_HAND, actor
from tasks.runtime.adapters import Adapters, open_adapters
from tasks.runtime.state import IncidentState
from tasks.runtime.store_access import StoreAccess
from tasks.system.cancellation import Cancellation, still_acts
from tasks.system.disk_reserve import give, give_all

if TYPE_CHECKING:
    from blocks.workload import Workload

Policy: TypeAlias = Literal["graceful", "kill"]
Suspects: TypeAlias = Literal["name", "include"]


@dataclass(frozen=True)
class RunInfo:
    """A run of an incident: its id in Prefect, what it was asked, the number of its record, its volume of evidence."""

    id: str
    number: int
    volume: int
    dry_run: bool = False
    policy: Policy = "graceful"
    suspects: Suspects | None = None
    trigger: str = BY_HAND

    @property
    def includes_suspects(self) -> bool:
        """Whether suspects are frozen and ended as well: as was asked, else under policy kill."""
        return (self.suspects or ("include" if self.policy == "kill" else "name")) == "include"


class RunContext:
    """What the steps of a run are given; `open_context` opens it.

    Not a dataclass: Prefect walks those, and this one holds locks and open files.
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
        """Put the parts together. `lock` is the open file that keeps other runs of the workload out."""
        self.incident, self.workload, self.run = incident, workload, run
        self.directory, self.cordon_files, self.log = directory, cordon_files, log
        self.adapters, self.store = adapters, store
        self.state = IncidentState(directory)
        self.cancelled = Cancellation()
        self._lock: int | None = lock

    def close(self) -> None:
        """Let another run have the workload, and others have the room. Idempotent.

        While a step of a cancelled run still acts, no other run may: the workload is given up when this process ends.
        """
        give_all(self.directory.reserve)
        self.adapters.close()
        if self._lock is not None and not still_acts():
            os.close(self._lock)
            self._lock = None


def open_context(  # noqa: PLR0913  what a run is asked
    incident: Incident,
    workload: "Workload",
    store: str,
    run: str,
    *,
    dry_run: bool,
    lock: int,
    saved: Mapping[str, Any],
    policy: Policy = "graceful",
    suspects: Suspects | None = None,
    trigger: str = BY_HAND,
) -> RunContext:
    """Make the incident's folder if this run opens it, carry its custody log on, and open the adapters.

    `store` is the name of the store's block and `saved` its fields, `run` the id in Prefect.
    """
    at = open_directory(workload, incident, dry_run=dry_run)
    log = CustodyLog(at.path / CUSTODY_LOG, actor(run, trigger), make_room=lambda size: give(at.reserve, size))
    return RunContext(
        incident,
        workload,
        RunInfo(run, at.next_number(), at.open_volume(), dry_run, policy, suspects, trigger),
        at,
        open_cordon_files(workload, at, dry_run=dry_run),
        log,
        open_adapters(workload, log, dry_run=dry_run),
        StoreAccess(store, saved, log, dry_run=dry_run),
        lock,
    )
