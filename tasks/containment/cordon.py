"""§1: hold the training lock by a guard that outlives us, watches for newcomers, and says who holds it and why."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from os import getpid
from signal import SIGTERM
from typing import Any, Final

from blocks.workload import Workload
from tasks.adapters.guard_config import Orders
from tasks.custody.containment.membership import Matcher, matchers_of
from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.receipt import Cordon
from tasks.custody.evidence.redact import command_line
from tasks.incident.layout import FROZEN, FROZEN_CONTAINERS, RECOVERED, RECOVERED_CONTAINERS
from tasks.runtime.context import Case
from tasks.runtime.step import step
from tasks.system.accounts import number_of
from tasks.system.atomic_files import caught_lines, read_marker
from tasks.system.processes import untouchable

_START_SECONDS: Final = 10.0
_HANDOVER_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_SHOWN: Final = 80


@step("§1 cordon: hold the training lock", "学習ロックの確保")
def cordon(case: Case) -> Cordon:
    """Hold the lock by a guard that outlives run and worker. Done twice it is still one cordon (runbook §1)."""
    if case.recovered():
        return _released(case)
    hold(case, case.incident.reason)
    return cordon_state(case)


def hold(case: Case, reason: str) -> None:
    """Put a guard on the lock. One that stands stays if it guards this lock, for this incident, as we would."""
    standing = case.host.guard(case.marker)
    wanted = orders(case, reason)
    lock = case.workload.lock
    if standing and wanted.same_watch(read_marker(case.marker)) and case.host.refuses(lock):
        return
    case.guard = case.host.hold(wanted)
    if standing:
        with suppress(ProcessLookupError):
            case.host.signal(standing, SIGTERM)
        case.host.wait_gone([standing], _HANDOVER_SECONDS)
        await_cordon(case)  # from a guard of an older version the lock comes a moment after its end


def orders(case: Case, reason: str) -> Orders:
    """What this incident's guard is told."""
    snapshot = case.host.snapshot()
    us = untouchable(snapshot) - {1}
    return Orders(
        incident=case.incident.id,
        reason=reason,
        since=datetime.now(UTC).isoformat(),
        lock=str(case.workload.lock),
        marker=str(case.marker),
        caught=str(case.caught),
        known=(str(case.home / FROZEN),),
        containers=tuple(case.workload.containers),
        known_containers=(str(case.home / FROZEN_CONTAINERS),),
        docker_host=case.workload.docker_host,
        root=str(case.root),
        matchers=matchers(case.workload),
        spared=tuple(process.identity for process in snapshot.values() if process.pid in us),
        started=(str(case.home / RECOVERED),),
        started_containers=(str(case.home / RECOVERED_CONTAINERS),),
        evidence=str(case.base),
    )


def matchers(workload: Workload) -> tuple[Matcher, ...]:
    """How the workload block recognises its processes."""
    return matchers_of(dict(workload), number_of(workload.user))


def guard_of(case: Case) -> Identity | None:
    """The guard that stands: by its marker, or the one that this run has started and that is about to write it."""
    return case.host.guard(case.marker) or case.guard


def cordon_state(case: Case) -> Cordon:
    """Look who holds the lock. After our own recovery nobody has to."""
    if case.recovered():
        return _released(case)
    lock = case.workload.lock
    guard = guard_of(case)
    about = read_marker(case.marker)
    held = guard is not None and case.host.holds(guard, lock) and case.host.refuses(lock)
    since = str(about.get("since", case.incident.opened_at.isoformat()))
    incident = str(about.get("incident", case.incident.id))
    return Cordon(str(lock), held, guard, since, incident, "" if held else _why_not(case, guard))


def _why_not(case: Case, guard: Identity | None) -> str:
    if guard is None:
        return "no guard stands"
    holder = case.host.holder(case.workload.lock)
    if holder is None or holder.identity == guard:
        link = ": a symbolic link lies there, which is not followed" if case.workload.lock.is_symlink() else ""
        return f"the lock could not be taken{link}"
    return f"{_tell(holder)} holds it; the guard waits"


def await_cordon(case: Case) -> Cordon:
    """The same, but give the guard the moment that it needs to write its marker and to get the lock from the stopped.

    Whoever else holds the lock is not waited for, nor a marker where no folder takes one.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        state = cordon_state(case)
        if stands := case.host.guard(case.marker) is not None:
            deadline = min(deadline, time.monotonic() + _HANDOVER_SECONDS)
        settled = state.held and (case.recovered() or stands or not case.kept.real)
        if settled or state.guard is None or time.monotonic() > deadline or _another_holds(case, state.guard):
            return state
        time.sleep(_POLL_SECONDS)


def _another_holds(case: Case, guard: Identity) -> bool:
    """Whether somebody has the lock who lives on: not the guard, not us who took it for the guard."""
    holder = case.host.holder(case.workload.lock)
    return holder is not None and holder.alive and holder.identity != guard and holder.pid != getpid()


def _tell(process: Process) -> str:
    return f"process {process.pid} ({command_line(process.command, _SHOWN)})"


def _released(case: Case) -> Cordon:
    reason = "released by this incident's own recovery"
    return Cordon(str(case.workload.lock), True, None, case.incident.opened_at.isoformat(), case.incident.id, reason)


def caught(case: Case) -> list[dict[str, Any]]:
    """Newcomers that the guard has frozen since this incident was opened."""
    return [line for line in caught_lines(case.caught) if _caught_at(line) >= case.incident.opened_at]


def _caught_at(line: dict[str, Any]) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line["at"]).astimezone(UTC)
    return datetime.min.replace(tzinfo=UTC)
