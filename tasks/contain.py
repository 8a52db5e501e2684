"""§2, §3: find the workload, freeze it, and check that nothing of it is left."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from os import getpid
from signal import SIGSTOP
from typing import Final

from tasks.case import Case
from tasks.cordon import cordon_state
from tasks.custody.process import Identity, Matcher, Process, bystanders, descendants, members, protected
from tasks.custody.receipt import Containment, Freeze, Frozen
from tasks.custody.redact import redact_command
from tasks.host import Host, boot_id
from tasks.step import step

FROZEN: Final = f"frozen-{boot_id()[:8]}.json"
_FREEZE_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.005


def matchers(case: Case) -> tuple[Matcher, ...]:
    """How the workload block recognises its processes."""
    block = case.workload
    return (
        Matcher("api", block.api_pattern),
        Matcher("training", block.training_pattern),
        Matcher("worker", block.worker_pattern),
    )


def find(case: Case) -> dict[Identity, tuple[str, Process]]:
    """Every living process of the workload with its role, parents first."""
    snapshot = case.host.snapshot()
    found = members(snapshot, matchers(case), case.workload.root, spared(case, snapshot))
    return {identity: (role, snapshot[identity.pid]) for identity, role in found.items()}


def spared(case: Case, snapshot: Mapping[int, Process]) -> set[int]:
    """Pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    recovered = case.recovered()
    ours = {pid for pid, process in snapshot.items() if process.identity in recovered}
    ours |= descendants(snapshot, ours)
    if guard := case.host.guard(case.marker):
        ours.add(guard.pid)
    return ours | protected(snapshot, getpid())


def left_alone(case: Case) -> tuple[str, ...]:
    """Processes that look like the workload's but neither work in its root nor run from it."""
    snapshot = case.host.snapshot()
    found = bystanders(snapshot, matchers(case), case.workload.root, spared(case, snapshot))
    return tuple(f"{process.pid}: {command_of(process)[:100]}" for process in found)


@step("§2 freeze the workload")
def freeze(case: Case) -> Freeze:
    """SIGSTOP every process of the workload, parents first, again until a look finds no new one (runbook §2, §3).

    Looks anew in every run; what earlier runs of the incident froze stays in the result, so that steps which
    depend on it are repeated for new life and for nothing else.
    """
    fresh: dict[Identity, Frozen] = {}
    earlier = frozen(case)
    deadline = time.monotonic() + _FREEZE_SECONDS
    settled = False
    while not settled and time.monotonic() < deadline:
        new = {who: what for who, what in find(case).items() if who not in fresh}
        fresh |= {who: freeze_one(case.host, role, process) for who, (role, process) in new.items()}
        settled = not new
    everyone = sorted({**earlier, **fresh}.values(), key=lambda process: process.identity)
    case.journal(FROZEN, list[Frozen], everyone)
    _confirm(case.host, fresh)
    for identity, process in fresh.items():
        case.log.write("frozen", str(identity.pid), role=process.role, command=process.command, denied=process.denied)
    return Freeze(_now(), tuple(everyone), settled)


def freeze_one(host: Host, role: str, process: Process) -> Frozen:
    """Stop one process where it stands; the record tells if it could not be done."""
    seen, denied, frozen_at = _now(), "", None
    try:
        host.signal(process.identity, SIGSTOP)
        frozen_at = _now()
    except ProcessLookupError:
        pass
    except PermissionError:
        denied = f"SIGSTOP denied, it belongs to user {process.user}"
    return Frozen(process.identity, role, command_of(process), process.user, seen, frozen_at, denied)


def command_of(process: Process) -> str:
    """The command line as it may be written down."""
    return " ".join(redact_command(process.command))


def _confirm(host: Host, fresh: Mapping[Identity, Frozen]) -> None:
    """Wait until the kernel shows each as stopped; a process in an uninterruptible wait takes a moment."""
    waiting = {identity for identity, process in fresh.items() if process.frozen_at}
    deadline = time.monotonic() + _SETTLE_SECONDS
    while waiting and time.monotonic() < deadline:
        waiting = {who for who in waiting if (now := host.look(who)) and now.alive and now.state not in {"T", "t"}}
        if waiting:
            time.sleep(_POLL_SECONDS)


def observed(case: Case) -> str:
    """Cache key of acts on the world: what this incident has frozen so far."""
    return ",".join(f"{who.pid}.{who.start}" for who in sorted(frozen(case)))


def frozen(case: Case) -> dict[Identity, Frozen]:
    """Everything that this incident has frozen so far, whichever run did it."""
    return {process.identity: process for process in case.journal(FROZEN, list[Frozen]) or []}


@step("§3 check: nothing of the workload is left")
def prove_contained(case: Case) -> Containment:
    """Look anew: no process of the workload, none of those that were frozen, and a lock that refuses."""
    alive = {who: f"{role} {who.pid}: {command_of(process)[:80]}" for who, (role, process) in find(case).items()}
    for identity, process in frozen(case).items():
        if identity not in alive and (now := case.host.look(identity)) and now.alive:
            alive[identity] = f"{process.role} {identity.pid}: {process.command[:80]}"
    state = cordon_state(case)
    return Containment(_now(), tuple(alive.values()), state.held, state.told, left_alone(case))


def _now() -> datetime:
    return datetime.now(UTC)
