"""§1: start the guard that holds the training lock, watches for newcomers, and says who holds it and why."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from os import getpid
from signal import SIGTERM
from typing import Any, Final

from tasks.adapters.guard_config import GuardConfig
from tasks.containment.members import guard_of
from tasks.containment.patterns import matchers, named
from tasks.containment.units import keep_down
from tasks.custody.containment.process import Identity
from tasks.custody.containment.receipt import Cordon
from tasks.custody.evidence.redact import command_line
from tasks.incident.layout import FROZEN, FROZEN_CONTAINERS, RECOVERED, RECOVERED_CONTAINERS, STOPPING_UNITS
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.atomic_files import caught_lines, read_marker
from tasks.system.processes import untouchable

_START_SECONDS: Final = 10.0
_HANDOVER_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_SHOWN: Final = 80


@step("§1", "cordon", "cordon: hold the training lock", "学習ロックの確保")
def cordon(context: RunContext) -> Cordon:
    """Hold the lock by a guard that outlives run and worker. Done twice it is still one cordon (runbook §1)."""
    if context.recovered():
        return _released(context)
    try:
        hold(context, context.incident.reason)
    finally:
        keep_down(context)
    return cordon_state(context)


def hold(context: RunContext, reason: str) -> None:
    """Put a guard on the lock. One that stands stays if it guards this lock, for this incident, as we would."""
    standing = context.host.guard(context.marker)
    wanted = orders(context, reason)
    lock = context.workload.lock
    if standing and wanted.same_watch(read_marker(context.marker)) and context.host.refuses(lock):
        return
    context.guard = context.host.hold(wanted)
    if standing:
        with suppress(ProcessLookupError):
            context.host.signal(standing, SIGTERM)
        context.host.wait_gone([standing], _HANDOVER_SECONDS)
        await_cordon(context)  # from a guard of an older version the lock comes a moment after its end


def orders(context: RunContext, reason: str) -> GuardConfig:
    """What this incident's guard is told."""
    snapshot = context.host.snapshot()
    us = untouchable(snapshot) - {1}
    return GuardConfig(
        incident=context.incident.id,
        reason=reason,
        since=datetime.now(UTC).isoformat(),
        lock=str(context.workload.lock),
        marker=str(context.marker),
        caught=str(context.caught),
        known=(str(context.home / FROZEN), str(context.home / STOPPING_UNITS)),
        containers=tuple(context.workload.containers),
        known_containers=(str(context.home / FROZEN_CONTAINERS),),
        docker_host=context.workload.docker_host,
        root=str(context.root),
        matchers=matchers(context.workload),
        spared=tuple(process.identity for process in snapshot.values() if process.pid in us),
        started=(str(context.home / RECOVERED),),
        started_containers=(str(context.home / RECOVERED_CONTAINERS),),
        evidence=str(context.base),
        named=named(context.workload),
    )


def cordon_state(context: RunContext) -> Cordon:
    """Look who holds the lock. After our own recovery nobody has to."""
    if context.recovered():
        return _released(context)
    lock = context.workload.lock
    guard = guard_of(context)
    about = read_marker(context.marker)
    held = guard is not None and context.host.has_lock(guard, lock) and context.host.refuses(lock)
    since = str(about.get("since", context.incident.opened_at.isoformat()))
    incident = str(about.get("incident", context.incident.id))
    return Cordon(str(lock), held, guard, since, incident, "" if held else _why_not(context, guard))


def _why_not(context: RunContext, guard: Identity | None) -> str:
    if guard is None:
        return "no guard stands"
    holder = context.host.holder(context.workload.lock)
    if holder is None or holder.identity == guard:
        link = ": a symbolic link lies there, which is not followed" if context.workload.lock.is_symlink() else ""
        return f"the lock could not be taken{link}"
    return f"process {holder.pid} ({command_line(holder.command, _SHOWN)}) holds it; the guard waits"


def await_cordon(context: RunContext) -> Cordon:
    """The same, but give the guard the moment that it needs to write its marker and to get the lock from the stopped.

    Whoever else holds the lock is not waited for, nor a marker where no folder takes one.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        state = cordon_state(context)
        if stands := context.host.guard(context.marker) is not None:
            deadline = min(deadline, time.monotonic() + _HANDOVER_SECONDS)
        settled = state.held and (context.recovered() or stands or not context.directory.real)
        if settled or state.guard is None or time.monotonic() > deadline or _another_holds(context, state.guard):
            return state
        time.sleep(_POLL_SECONDS)


def _another_holds(context: RunContext, guard: Identity) -> bool:
    """Whether somebody has the lock who lives on: not the guard, not us who took it for the guard."""
    holder = context.host.holder(context.workload.lock)
    return holder is not None and holder.alive and holder.identity != guard and holder.pid != getpid()


def _released(context: RunContext) -> Cordon:
    reason = "released by this incident's own recovery"
    return Cordon(
        str(context.workload.lock), True, None, context.incident.opened_at.isoformat(), context.incident.id, reason
    )


def caught(context: RunContext) -> list[dict[str, Any]]:
    """Newcomers that the guard has frozen since this incident was opened."""
    return [line for line in caught_lines(context.caught) if _caught_at(line) >= context.incident.opened_at]


def _caught_at(line: dict[str, Any]) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line["at"]).astimezone(UTC)
    return datetime.min.replace(tzinfo=UTC)
