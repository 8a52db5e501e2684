"""§2, §3: find the workload, freeze it, and check that nothing of it is left."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from os import getpid
from pathlib import PurePath
from signal import SIGSTOP
from typing import Final

from tasks.case import Case
from tasks.cordon import cordon_state
from tasks.custody.process import Identity, Matcher, Process, bystanders, descendants, members, protected, suspects
from tasks.custody.receipt import Containment, Freeze, Frozen, Stopped
from tasks.custody.redact import redact_command
from tasks.host import Host
from tasks.proc import boot_id
from tasks.step import step

FROZEN: Final = f"frozen-{boot_id()[:8]}.json"
STOPPED: Final = f"stopped-{boot_id()[:8]}.json"
SINCE: Final = f"since-{boot_id()[:8]}.json"
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


def root_of(case: Case) -> PurePath:
    """The root as the kernel names it: a root that is a link shows in no process's working directory."""
    return PurePath(os.path.realpath(case.workload.root))


def find(case: Case) -> dict[Identity, tuple[str, Process]]:
    """Every living process of the workload with its role, parents first."""
    snapshot = case.host.snapshot()
    found = members(snapshot, matchers(case), root_of(case), spared(case, snapshot))
    return {identity: (role, snapshot[identity.pid]) for identity, role in found.items()}


def spared(case: Case, snapshot: Mapping[int, Process]) -> set[int]:
    """Pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    return ours(case, snapshot) | protected(snapshot, getpid())


def ours(case: Case, snapshot: Mapping[int, Process]) -> set[int]:
    """Pids of our guard and of the API that our own recovery brought back."""
    recovered = case.recovered()
    started = {pid for pid, process in snapshot.items() if process.identity in recovered}
    started |= descendants(snapshot, started)
    guard = case.host.guard(case.marker)
    return started | ({guard.pid} if guard else set())


@step("§2 freeze the workload")
def freeze(case: Case) -> Freeze:
    """SIGSTOP every process of the workload, parents first, again until a look finds no new one (runbook §2, §3).

    Looks anew in every run; what earlier runs of the incident froze stays in the result, so that steps which
    depend on it are repeated for new life and for nothing else.
    """
    if case.journal(SINCE, int) is None:
        case.journal(SINCE, int, ticks())
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


def stopped(case: Case) -> dict[Identity, Stopped]:
    """Receipts of everything that this incident has ended so far, whichever run did it."""
    return {receipt.identity: receipt for receipt in case.journal(STOPPED, list[Stopped]) or []}


def restless(case: Case) -> str:
    """Cache key of what was frozen and has no receipt of its end: it may still write."""
    return ",".join(f"{who.pid}.{who.start}" for who in sorted(frozen(case).keys() - stopped(case).keys()))


def observed(case: Case) -> str:
    """Cache key of acts on the world: what this incident has frozen so far."""
    return ",".join(f"{who.pid}.{who.start}" for who in sorted(frozen(case)))


def frozen(case: Case) -> dict[Identity, Frozen]:
    """Everything that this incident has frozen so far, whichever run did it."""
    return {process.identity: process for process in case.journal(FROZEN, list[Frozen]) or []}


def contained(case: Case) -> Containment:
    """Look anew: nothing that belongs to the workload, nobody that was frozen, and a lock that refuses."""
    visible = _others(case)
    alive = contradictions(case, visible)
    for identity in frozen(case).keys() - alive.keys():
        if (process := visible.get(identity.pid)) and process.identity == identity and process.alive:
            alive[identity] = "it was frozen and lives"
    kept = _kept(visible) | {who.pid for who in alive}
    state = cordon_state(case)
    return Containment(
        at=_now(),
        alive=tuple(f"{_tell(visible[who.pid])} ({reason})" for who, reason in alive.items()),
        cordoned=state.held,
        reason=state.told,
        left_alone=tuple(_tell(process) for process in bystanders(visible, matchers(case), root_of(case), kept)),
    )


def contradictions(case: Case, snapshot: Mapping[int, Process] | None = None) -> dict[Identity, str]:
    """Living processes that contradict "nothing of the workload runs", with the reason."""
    visible = snapshot or _others(case)
    since = case.journal(SINCE, int) or ticks()
    return suspects(visible, matchers(case), root_of(case), _kept(visible), since)


def _others(case: Case) -> dict[int, Process]:
    snapshot = case.host.snapshot()
    mine = ours(case, snapshot)
    return {pid: process for pid, process in snapshot.items() if pid not in mine}


def _kept(snapshot: Mapping[int, Process]) -> set[int]:
    """Those that are never touched, and our own collectors, which may work in the root."""
    return protected(snapshot, getpid()) | descendants(snapshot, [getpid()])


@step("§3 check: nothing of the workload is left")
def prove_contained(case: Case) -> Containment:
    """Look right after the stop."""
    return contained(case)


@step("§3 check: nothing of the workload came back")
def prove_still_contained(case: Case) -> Containment:
    """Look again when the evidence is safe: a supervisor may have brought the workload back meanwhile."""
    return contained(case)


def ticks() -> int:
    """Now, in clock ticks since boot, as the kernel counts the start of a process."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _tell(process: Process) -> str:
    return f"{process.pid}: {command_of(process)[:100]}"


def _now() -> datetime:
    return datetime.now(UTC)
