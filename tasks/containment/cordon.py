"""§1: start the guard, which holds the training lock, catches newcomers, and says for which incident and why."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from os import getpid
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final

from tasks.containment.members import Snapshot, description_of, guard_of
from tasks.containment.units import Units
from tasks.custody.containment.cordon import Cordon
from tasks.custody.containment.identity import Identity
from tasks.host.guard_config import GuardConfig
from tasks.host.host import Host
from tasks.host.process.newcomer import again_and_again
from tasks.host.process.process import process_line
from tasks.host.process.table import untouchable
from tasks.incident.layout import FROZEN, FROZEN_CONTAINERS, RECOVERED, RECOVERED_CONTAINERS, STOPPING_UNITS
from tasks.incident.paths import CordonFiles
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.files.atomic_files import caught_lines, read_marker

_START_SECONDS: Final = 10.0
_HANDOVER_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_SHOWN: Final = 80


@step(
    "cordon", "cordon: hold the training lock", section="§1", ja="学習ロックの確保", retries=1, retry_delay_seconds=0.1
)
def cordon(context: RunContext) -> Cordon:
    """Hold the training lock by a guard that outlives run and worker. Idempotent (runbook §1)."""
    units = Units(context)
    try:
        hold(context, context.incident.reason)
    finally:
        units.keep_down()
    return replace(cordon_state(context), warnings=tuple(units.warnings))


def hold(context: RunContext, reason: str) -> None:
    """Start a guard that holds the lock, unless one with the same orders stands. Replaces any other."""
    host, marker = context.adapters.host, context.cordon_files.marker
    standing, wanted = host.guard(marker), orders(context, reason)
    if standing and wanted.same_watch(read_marker(marker)) and host.refuses(context.workload.lock):
        return
    host.hold(wanted)
    if standing:
        with suppress(ProcessLookupError):
            host.signal(standing, SIGTERM)
        host.wait_gone([standing], _HANDOVER_SECONDS)
        await_cordon(context)  # a guard that could not hand the lock over gives it up a moment after its end


def orders(context: RunContext, reason: str) -> GuardConfig:
    """Return the configuration of this incident's guard."""
    snapshot, home = context.adapters.host.snapshot(), context.directory.path
    us = untouchable(snapshot) - {1}
    return GuardConfig(
        incident=context.incident.id,
        reason=reason,
        since=datetime.now(UTC).isoformat(),
        lock=str(context.workload.lock),
        marker=str(context.cordon_files.marker),
        caught=str(context.cordon_files.caught),
        known=(str(home / FROZEN), str(home / STOPPING_UNITS)),
        containers=tuple(context.workload.containers),
        known_containers=(str(home / FROZEN_CONTAINERS),),
        docker_host=context.workload.docker_host,
        workload=description_of(context.workload),
        spared=tuple(process.identity for process in snapshot.values() if process.pid in us),
        started=(str(home / RECOVERED),),
        started_containers=(str(home / RECOVERED_CONTAINERS),),
        evidence=str(context.directory.base),
    )


def cordon_state(context: RunContext) -> Cordon:
    """Return the state of the cordon. After this incident's own recovery it counts as released."""
    if context.state.recovered.read():
        return _report_released(context)
    host, lock, marker = context.adapters.host, context.workload.lock, context.cordon_files.marker
    guard, content = guard_of(host, marker), read_marker(marker)
    held = guard is not None and host.has_lock(guard, lock) and host.refuses(lock)
    since = str(content.get("since", context.incident.opened_at.isoformat()))
    incident = str(content.get("incident", context.incident.id))
    return Cordon(str(lock), held, guard, since, incident, "" if held else _why_not(host, lock, guard))


def _why_not(host: Host, lock: Path, guard: Identity | None) -> str:
    if guard is None:
        return "no guard stands"
    holder = host.holder(lock)
    if holder is None or holder.identity == guard:
        link = ": a symbolic link lies there, which is not followed" if lock.is_symlink() else ""
        return f"the lock could not be taken{link}"
    return f"process {holder.pid} ({process_line(holder, _SHOWN)}) holds it; the guard waits"


def await_cordon(context: RunContext) -> Cordon:
    """Wait until the guard has written its marker and has the lock; return the cordon's state.

    Does not wait if another process holds the lock, nor for a marker that no folder can take.
    """
    host, lock, deadline = context.adapters.host, context.workload.lock, time.monotonic() + _START_SECONDS
    while True:
        state = cordon_state(context)
        if stands := host.guard(context.cordon_files.marker) is not None:
            deadline = min(deadline, time.monotonic() + _HANDOVER_SECONDS)
        settled = state.held and (context.state.recovered.read() or stands or not context.directory.real)
        if settled or state.guard is None or time.monotonic() > deadline or _another_holds(host, lock, state.guard):
            return state
        time.sleep(_POLL_SECONDS)


def _another_holds(host: Host, lock: Path, guard: Identity) -> bool:
    """Return whether a live process other than the guard and this one holds the lock."""
    holder = host.holder(lock)
    return holder is not None and holder.alive and holder.identity != guard and holder.pid != getpid()


def _report_released(context: RunContext) -> Cordon:
    reason = "released by this incident's own recovery"
    return Cordon(
        str(context.workload.lock), True, None, context.incident.opened_at.isoformat(), context.incident.id, reason
    )


def caught(files: CordonFiles, since: datetime) -> list[dict[str, Any]]:
    """Return the newcomers that the guard has frozen `since` this incident was opened."""
    return [line for line in caught_lines(files.caught) if _caught_at(line) >= since]


def brought_again(context: RunContext, snapshot: Snapshot) -> list[str]:
    """Return what the guard has found to start newcomers again and again, and how a person ends it."""
    return again_and_again(snapshot, caught(context.cordon_files, context.incident.opened_at))


def held_newcomers(context: RunContext) -> list[dict[str, Any]]:
    """Return what the guard has frozen for this incident, without what a run has let go since."""
    rows, gone = caught(context.cordon_files, context.incident.opened_at), dict[Identity, datetime]()
    for entry in context.log.entries() if rows else ():
        fields = {"pid": entry["object"], "start": entry.get("start")}
        if entry["action"] == "let go" and (identity := Identity.of(fields)):
            gone[identity] = _caught_at({"at": entry["utc"]})
    return [
        row
        for row in rows
        if not (identity := Identity.of(row)) or identity not in gone or gone[identity] < _caught_at(row)
    ]


def killed_by_guard(files: CordonFiles, since: datetime) -> dict[Identity, datetime]:
    """Return the newcomers to which the guard has sent SIGKILL, and when."""
    rows = [row for row in caught(files, since) if row.get("killed")]
    return {identity: _caught_at(row) for row in rows if (identity := Identity.of(row))}


def _caught_at(line: dict[str, Any]) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line["at"]).astimezone(UTC)
    return datetime.min.replace(tzinfo=UTC)
