"""§2, §3: find the workload, freeze it, and check that nothing of it is left."""

import os
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from os import getpid
from signal import SIGSTOP
from typing import Final

from tasks.adapters.host import Host
from tasks.containment.api_port import note_listener, others_on_port
from tasks.containment.containers import (
    containers_key,
    find_containers,
    freeze_containers,
    frozen_containers,
    living_containers,
    stopped_containers,
)
from tasks.containment.cordon import await_cordon, guard_of, matchers
from tasks.containment.short_lived import NOBODY, met_in_passing
from tasks.custody.containment.ends import End
from tasks.custody.containment.membership import Member, Survey, members, survey
from tasks.custody.containment.passing import come_and_gone
from tasks.custody.containment.process import Identity, Process, descendants, handed_down
from tasks.custody.containment.receipt import Containment, Freeze, Frozen, Returned, Stopped
from tasks.custody.containment.source import lineages
from tasks.custody.errors import EngineError
from tasks.custody.evidence.redact import command_line
from tasks.incident.layout import FROZEN, RETURNED, SINCE, STOPPED
from tasks.prestart.freeze import read_early, take_over
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.processes import flow_run_of, untouchable

_FREEZE_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.005
_SHOWN: Final = 100
_STOPPED: Final = frozenset("Tt")
CONTAINED: Final = "contained"
FROZEN_ONLY: Final = "frozen, not stopped"
NOT_CONTAINED: Final = "not contained"
RELEASED: Final = "let go by an earlier recovery"
UNTOUCHED: Final = "nothing was touched"
"""How the workload stands when a run of its incident is cancelled."""
Snapshot = Mapping[int, Process]


def find_members(context: RunContext, snapshot: Snapshot) -> dict[Identity, Member]:
    """Every living process of the workload, parents first."""
    return members(snapshot, matchers(context.workload), context.root, protected_pids(context, snapshot))


def protected_pids(context: RunContext, snapshot: Snapshot) -> set[int]:
    """Pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    return own_pids(context, snapshot) | untouchable(snapshot)


def own_pids(context: RunContext, snapshot: Snapshot) -> set[int]:
    """Pids of our guard and of the API that our own recovery brought back."""
    recovered = context.recovered()
    started = {pid for pid, process in snapshot.items() if process.identity in recovered}
    guard = guard_of(context)
    return started | descendants(snapshot, started) | ({guard.pid} if guard else set())


@step("§2 freeze the workload", "凍結")
def freeze(context: RunContext) -> Freeze:
    """SIGSTOP every process of the workload, parents first, again until a look finds no new one (runbook §2, §3).

    Its containers are paused right after: no engine can delay that.
    Looks anew in every run; what earlier runs of the incident froze stays in the result, so that steps which
    depend on it are repeated for new life and for nothing else.
    """
    if context.journal(SINCE, int) is None:
        context.journal(SINCE, int, ticks())
    before = read_early(context.early)
    fresh: dict[Identity, Frozen] = {}
    earlier = load_frozen(context)
    deadline = time.monotonic() + _FREEZE_SECONDS
    looks = list[tuple[Snapshot, dict[Identity, Frozen]]]()
    settled = False
    while not settled and time.monotonic() < deadline:
        snapshot: Snapshot = context.host.snapshot()
        new = {who: member for who, member in find_members(context, snapshot).items() if who not in fresh}
        halted = {who: halt(context.host, snapshot[who.pid], member, before.get(who)) for who, member in new.items()}
        fresh |= halted
        looks.append((snapshot, halted))
        settled = not new
    for snapshot, halted in looks:
        fresh |= describe(snapshot, halted)
    context.freeze_budget.begin()
    everyone = sorted({**earlier, **fresh}.values(), key=lambda process: process.identity)
    context.journal(FROZEN, list[Frozen], everyone)
    take_over(context.early)
    _confirm(context.host, fresh)
    note_listener(context, fresh)
    for identity, process in fresh.items():
        about = {"role": process.role, "why": process.why, "command": process.command, "denied": process.denied}
        about |= {"at": str(process.frozen_at), "source": ", started by ".join(map(str, process.lineage))}
        context.log.write("frozen", str(identity.pid), **about)
    containers, trouble = freeze_containers(context)
    return Freeze(_now(), tuple(everyone), settled, containers, trouble)


def halt(host: Host, process: Process, member: Member, before: datetime | None = None) -> Frozen:
    """Stop one process where it stands; the record tells if it could not be done, and is completed by `described`.

    `before` is when the early freeze has stopped it: it counts if the process still stands.
    """
    seen, denied, frozen_at = _now(), "", None
    try:
        host.signal(process.identity, SIGSTOP)
        frozen_at = before if before and process.state in {"T", "t"} else _now()
    except ProcessLookupError:
        pass
    except PermissionError:
        denied = f"SIGSTOP denied, it belongs to user {process.user}"
    return Frozen(process.identity, member.role, "", process.user, seen, frozen_at, denied, member.why)


def describe(snapshot: Snapshot, halted: Mapping[Identity, Frozen]) -> dict[Identity, Frozen]:
    """Complete the records of one look: command, lineage, flow run. Nothing that takes time comes before a signal.

    A flow run is a process's own, or that of whoever started it, as `train` does.
    """
    pids = [identity.pid for identity in halted]
    lines = lineages(snapshot, pids)
    runs = handed_down(snapshot, pids, "", lambda process, above: flow_run_of(process.pid) or above)
    return {
        who: replace(process, command=command_of(snapshot[who.pid]), lineage=lines[who.pid], run=runs[who.pid])
        for who, process in halted.items()
    }


def command_of(process: Process) -> str:
    """The command line as it may be written down."""
    return command_line(process.command)


def _confirm(host: Host, fresh: Mapping[Identity, Frozen]) -> None:
    """Wait until the kernel shows each as stopped; a process in an uninterruptible wait takes a moment."""
    waiting = {identity for identity, process in fresh.items() if process.frozen_at}
    deadline = time.monotonic() + _SETTLE_SECONDS
    while waiting and time.monotonic() < deadline:
        waiting = {
            who for who in waiting if (now := host.get_process(who)) and now.alive and now.state not in {"T", "t"}
        }
        if waiting:
            time.sleep(_POLL_SECONDS)


def load_stopped(context: RunContext) -> dict[Identity, Stopped]:
    """Receipts of everything that this incident has ended so far, whichever run did it."""
    return {receipt.identity: receipt for receipt in context.journal(STOPPED, list[Stopped]) or []}


def stop_key(context: RunContext) -> str:
    """Cache key of what was frozen and has no receipt of its end: it may still write."""
    processes = ",".join(
        f"{who.pid}.{who.start}" for who in sorted(load_frozen(context).keys() - load_stopped(context).keys())
    )
    containers = containers_key(frozen_containers(context).keys() - stopped_containers(context).keys())
    return f"{processes};{containers}" if containers else processes


def collect_key(context: RunContext) -> str:
    """Cache key of acts on the world: what this incident has frozen so far."""
    processes = ",".join(f"{who.pid}.{who.start}" for who in sorted(load_frozen(context)))
    containers = containers_key(frozen_containers(context))
    return f"{processes};{containers}" if containers else processes


def load_frozen(context: RunContext) -> dict[Identity, Frozen]:
    """Everything that this incident has frozen so far, whichever run did it."""
    return {process.identity: process for process in context.journal(FROZEN, list[Frozen]) or []}


def load_returned(context: RunContext) -> list[Returned]:
    """Processes that were started after the stop, whichever run of this incident met them."""
    return context.journal(RETURNED, list[Returned]) or []


def check_containment(context: RunContext) -> Containment:
    """Look again: nothing that belongs to the workload, nobody that was frozen, and a lock that refuses.

    Nor anybody who comes and goes faster than a look, nor another program on the API's port.
    """
    last, _ = context.host.arrivals(NOBODY)
    state = await_cordon(context)
    snapshot = context.host.snapshot()
    mine = own_pids(context, snapshot)
    visible = {pid: process for pid, process in snapshot.items() if pid not in mine}
    seen = look_for_life(context, visible)
    alive = dict(seen.alive)
    for identity in load_frozen(context).keys() - alive.keys():
        if (process := visible.get(identity.pid)) and process.identity == identity and process.alive:
            alive[identity] = "it was frozen and lives"
    alive |= {
        each.identity: f"left frozen, {each.source} brings it back"
        for each in _load_held(context)
        if each.identity in alive
    }
    return Containment(
        at=_now(),
        alive=(
            *(f"{_tell(visible[who.pid])} ({reason})" for who, reason in alive.items()),
            *_listening(context, mine, alive),
            *_passing(context, last),
            *living_containers(context),
        ),
        cordoned=state.held,
        reason=state.summary,
        left_alone=tuple(_tell(process) for process in seen.bystanders),
        recovered=bool(context.recovered() or context.recovered_containers()),
    )


def _listening(context: RunContext, mine: Iterable[int], told: Container[Identity]) -> list[str]:
    """Who else listens on the API's port."""
    found = others_on_port(context, mine, _known_containers(context))
    return [
        f"{_tell(each.process) if each.process else f'a program of user {each.user}'} ({reason})"
        for each, reason in found
        if not each.process or each.process.identity not in told
    ]


def _passing(context: RunContext, last: int) -> list[str]:
    """Whether processes of the workload come and go; `last` is the last pid that was given out before the look."""
    met = {process.pid: process for process in met_in_passing(context.host, last)}
    if not met:
        return []
    snapshot = context.host.snapshot()
    mine, kept = own_pids(context, met | snapshot), _excluded_pids(met | snapshot)
    others = [process for pid, process in met.items() if pid not in mine]
    since = context.journal(SINCE, int) or ticks()
    found = come_and_gone(others, snapshot, matchers(context.workload), context.root, kept, since)
    return [
        f"{len(found)} processes came and went during the check, too fast to be stopped, as "
        f"{_tell(met[who.pid])} ({reason}); end them by their systemd unit or control group "
        f"({met[who.pid].cgroup.rpartition(':')[2].strip()}) or restart the host, then carry the incident on"
        for who, reason in list(found.items())[:1]
    ]


def stance(context: RunContext, containment: Containment | None) -> str:
    """How the workload stands, in words that a cancelled run can be told by."""
    if context.dry_run:
        return UNTOUCHED
    if containment and containment.contained:
        return CONTAINED
    if context.recovered():
        return RELEASED
    held, snapshot = load_frozen(context), context.host.snapshot()
    mine = own_pids(context, snapshot)
    visible = {pid: process for pid, process in snapshot.items() if pid not in mine}
    seen = {visible[who.pid] for who in look_for_life(context, visible).alive}
    seen |= {now for who in held if (now := visible.get(who.pid)) and now.identity == who and now.alive}
    still = [process.identity in held and process.state in _STOPPED for process in seen]
    try:
        still += [container.state == "paused" for container in find_containers(context)]
    except EngineError:
        return NOT_CONTAINED
    return FROZEN_ONLY if still and all(still) else NOT_CONTAINED


def _load_held(context: RunContext) -> list[Returned]:
    return [each for each in load_returned(context) if each.end is End.HELD]


def look_for_life(context: RunContext, snapshot: Snapshot) -> Survey:
    """Living processes that contradict "nothing of the workload runs", and those that only look like it."""
    since = context.journal(SINCE, int) or ticks()
    return survey(
        snapshot, matchers(context.workload), context.root, _excluded_pids(snapshot), since, _known_containers(context)
    )


def _known_containers(context: RunContext) -> set[str]:
    return {each.id for each in (*frozen_containers(context), *context.recovered_containers())}


def _excluded_pids(snapshot: Snapshot) -> set[int]:
    """Those that are never touched, and our own collectors, which may work in the root."""
    return untouchable(snapshot) | descendants(snapshot, [getpid()])


@step("§3 check: nothing of the workload is left", "封じ込めの確認")
def prove_contained(context: RunContext) -> Containment:
    """Look right after the stop."""
    return check_containment(context)


@step("§3 check: nothing of the workload came back", "再出現なしの確認", last=True)
def prove_still_contained(context: RunContext) -> Containment:
    """Look again when the evidence is safe: a supervisor may have brought the workload back meanwhile."""
    return check_containment(context)


def ticks() -> int:
    """Now, in clock ticks since boot, as the kernel counts the start of a process."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _tell(process: Process) -> str:
    where = f" in container {process.container[:12]}" if process.container else ""
    return f"{process.pid}: {command_line(process.command, _SHOWN)}{where}"


def _now() -> datetime:
    return datetime.now(UTC)
