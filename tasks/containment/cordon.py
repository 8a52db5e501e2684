"""§1: start the guard, which holds the training lock, catches newcomers, and says for which incident and why."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from os import getpid
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final

from tasks.containment.members import description_of, guard_of
from tasks.containment.units import Units
from tasks.custody.containment.cordon import Cordon
from tasks.custody.containment.identity import Identity
from tasks.host.file_lock import tell_holder
from tasks.host.guard_config import GuardConfig
from tasks.host.host import Host
from tasks.host.process.table import untouchable
from tasks.incident.layout import FROZEN, FROZEN_CONTAINERS, RECOVERED, RECOVERED_CONTAINERS, STOPPING_UNITS
from tasks.incident.paths import CordonFiles
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.files.atomic_files import caught_lines, read_marker

_START_SECONDS: Final = 10.0
_HANDOVER_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@step(
    "cordon", "cordon: hold the training lock", section="§1", ja="学習ロックの確保", retries=1, retry_delay_seconds=0.1
)
def cordon(context: RunContext) -> Cordon:
    """Hold the training lock by a guard that outlives run and worker. Idempotent (runbook §1)."""
    units, ours = Units(context), IncidentCordon(context)
    try:
        ours.hold(context.incident.reason)
    finally:
        units.keep_down()
    return replace(ours.look(), warnings=tuple(units.warnings))


class IncidentCordon:
    """The cordon of an incident: its guard, and what that has written down since the incident was opened."""

    def __init__(self, context: RunContext) -> None:
        """Look at nothing yet."""
        self.incident, self.files, self.workload = context.incident, context.cordon_files, context.workload
        self._host, self._directory = context.adapters.host, context.directory
        self._state, self._log = context.state, context.log

    def hold(self, reason: str) -> None:
        """Start a guard that holds the lock, unless one with the same orders stands. Replaces any other."""
        standing, wanted = self._host.guard(self.files.marker), self.orders(reason)
        if standing and wanted.same_watch(read_marker(self.files.marker)) and self._host.refuses(self.workload.lock):
            return
        self._host.hold(wanted)
        if standing:
            with suppress(ProcessLookupError):
                self._host.signal(standing, SIGTERM)
            self._host.wait_gone([standing], _HANDOVER_SECONDS)
            self.wait()  # a guard that could not hand the lock over gives it up a moment after its end

    def orders(self, reason: str) -> GuardConfig:
        """Return the configuration of this incident's guard."""
        snapshot, home = self._host.snapshot(), self._directory.path
        us = untouchable(snapshot) - {1}
        return GuardConfig(
            incident=self.incident.id,
            reason=reason,
            since=datetime.now(UTC).isoformat(),
            lock=str(self.workload.lock),
            marker=str(self.files.marker),
            caught=str(self.files.caught),
            known=(str(home / FROZEN), str(home / STOPPING_UNITS)),
            containers=tuple(self.workload.containers),
            known_containers=(str(home / FROZEN_CONTAINERS),),
            docker_host=self.workload.docker_host,
            workload=description_of(self.workload),
            spared=tuple(process.identity for process in snapshot.values() if process.pid in us),
            started=(str(home / RECOVERED),),
            started_containers=(str(home / RECOVERED_CONTAINERS),),
            evidence=str(self._directory.base),
        )

    def look(self) -> Cordon:
        """Return the state of the cordon. After this incident's own recovery it counts as released."""
        host, lock, opened = self._host, self.workload.lock, self.incident.opened_at.isoformat()
        if self._state.recovered.read():
            reason = "released by this incident's own recovery"
            return Cordon(str(lock), True, None, opened, self.incident.id, reason)
        guard, content = guard_of(host, self.files.marker), read_marker(self.files.marker)
        held = guard is not None and host.has_lock(guard, lock) and host.refuses(lock)
        since, incident = str(content.get("since", opened)), str(content.get("incident", self.incident.id))
        return Cordon(str(lock), held, guard, since, incident, "" if held else _why_not(host, lock, guard))

    def wait(self) -> Cordon:
        """Wait until the guard has written its marker and has the lock; return the cordon's state.

        Does not wait if another process holds the lock, nor for a marker that no folder can take.
        """
        host, lock, deadline = self._host, self.workload.lock, time.monotonic() + _START_SECONDS
        while True:
            cordon = self.look()
            if stands := host.guard(self.files.marker) is not None:
                deadline = min(deadline, time.monotonic() + _HANDOVER_SECONDS)
            settled = cordon.held and (self._state.recovered.read() or stands or not self._directory.real)
            late = time.monotonic() > deadline
            if settled or cordon.guard is None or late or _another_holds(host, lock, cordon.guard):
                return cordon
            time.sleep(_POLL_SECONDS)

    def newcomers(self) -> list[dict[str, Any]]:
        """Return what the guard has written of newcomers, which it froze or saw, since the incident was opened."""
        return caught(self.files, self.incident.opened_at)

    def held_newcomers(self) -> list[dict[str, Any]]:
        """Return what guards have frozen since the last thaw, of any incident, without what a run has let go since."""
        rows, gone = [*caught_lines(self.files.caught)], dict[Identity | None, datetime]()
        for entry in self._log.entries() if rows else ():
            fields = {"pid": entry["object"], "start": entry.get("start")}
            if entry["action"] == "let go" and (identity := Identity.of(fields)):
                gone[identity] = _caught_at({"at": entry["utc"]})
        return [row for row in rows if gone.get(Identity.of(row), _NEVER) <= _caught_at(row)]

    def held_processes(self) -> list[tuple[Identity, bool]]:
        """Return the processes among them, and whether each stood before."""
        return [(each, bool(row.get("stood"))) for row in self.held_newcomers() if (each := Identity.of(row))]

    def killed_newcomers(self) -> dict[Identity, datetime]:
        """Return the newcomers to which the guard has sent SIGKILL, and when."""
        rows = [row for row in self.newcomers() if row.get("killed")]
        return {identity: _caught_at(row) for row in rows if (identity := Identity.of(row))}


def _why_not(host: Host, lock: Path, guard: Identity | None) -> str:
    if guard is None:
        return "no guard stands"
    holder = host.holder(lock)
    if holder is None or holder.identity == guard:
        link = ": a symbolic link lies there, which is not followed" if lock.is_symlink() else ""
        return f"the lock could not be taken{link}"
    return f"{tell_holder(holder, lock)}; the guard waits"


def _another_holds(host: Host, lock: Path, guard: Identity) -> bool:
    """Return whether a live process other than the guard and this one holds the lock."""
    holder = host.holder(lock)
    return holder is not None and holder.alive and holder.identity != guard and holder.pid != getpid()


def caught(files: CordonFiles, since: datetime) -> list[dict[str, Any]]:
    """Return the newcomers that the guard has frozen `since` then."""
    return [line for line in caught_lines(files.caught) if _caught_at(line) >= since]


def _caught_at(line: dict[str, Any]) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line["at"]).astimezone(UTC)
    return _NEVER
