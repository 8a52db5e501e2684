"""§1: hold the training lock by a guard that outlives us, and say who holds it and why."""

from datetime import UTC, datetime

from tasks.case import Case
from tasks.custody.receipt import Cordon
from tasks.guard import read_marker
from tasks.step import step


@step("§1 cordon: hold the training lock")
def cordon(case: Case) -> Cordon:
    """Hold the lock by a guard that outlives run and worker. Done twice it is still one cordon (runbook §1)."""
    if case.recovered():
        return _released(case)
    standing = case.host.guard(case.marker)
    if not standing or not case.host.refuses(case.workload.lock):
        hold(case, case.incident.reason)
    return cordon_state(case)


def hold(case: Case, reason: str) -> None:
    """Put a guard on the lock, in place of one that guards a file which is no longer there."""
    case.host.release(case.marker)
    about = {"incident": case.incident.id, "since": datetime.now(UTC).isoformat(), "reason": reason}
    case.host.hold(case.workload.lock, case.marker, about)


def cordon_state(case: Case) -> Cordon:
    """Look who holds the lock. After our own recovery nobody has to."""
    if case.recovered():
        return _released(case)
    lock = case.workload.lock
    guard = case.host.guard(case.marker)
    about = read_marker(case.marker)
    held = guard is not None and case.host.holds(guard, lock) and case.host.refuses(lock)
    reason = "" if held else "somebody else holds it; the guard waits" if guard else "no guard stands"
    since = str(about.get("since", case.incident.opened_at.isoformat()))
    return Cordon(str(lock), held, guard, since, str(about.get("incident", case.incident.id)), reason)


def _released(case: Case) -> Cordon:
    reason = "released by this incident's own recovery"
    return Cordon(str(case.workload.lock), True, None, case.incident.opened_at.isoformat(), case.incident.id, reason)
