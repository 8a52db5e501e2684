"""§2: freeze the workload.

See docs/adr/0002.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tasks.containment.api_port import note_listener, note_named
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.control_groups import Groups
from tasks.containment.cordon import IncidentCordon
from tasks.containment.earlier_boots import note_reboots
from tasks.containment.gpu import look_at_gpus
from tasks.containment.members import Snapshot
from tasks.containment.release.bystanders import let_go
from tasks.containment.release.uncordon import standing_strangers
from tasks.containment.release.wrappers import Wrappers
from tasks.containment.units import Units
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import BOOT, Freeze, Frozen
from tasks.host.host import FREEZE_SECONDS, Host, freeze_process
from tasks.host.process.membership import Member
from tasks.host.process.process import Process, handed_down, process_line
from tasks.host.process.source import find_birthplace, lineages
from tasks.host.process.table import age_of, flow_run_of, is_part, ticks
from tasks.prestart.hearing import ASKED_BY, Hearing
from tasks.prestart.journal import read_early, take_over
from tasks.runtime.context import FirstTry, RunContext
from tasks.runtime.frozen import load_frozen, with_earlier
from tasks.runtime.step import step
from tasks.system.polling import poll_until

_SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.005
_BY_SIGNALS: Final = 2
"""Looks before a control group is used."""
Looks = list[tuple[Snapshot, dict[Identity, Frozen]]]


@step("freeze", "freeze the workload", section="§2", ja="凍結", retries=2, retry_delay_seconds=0.1)
def freeze(context: RunContext) -> Freeze:
    """SIGSTOP every process of the workload, parents first, until a look finds no new one (runbook §2, §3).

    Groups that hold only the workload are frozen in place. Whatever two looks do not settle goes into a control group
    of the incident, which also holds processes too short-lived for any look. Containers are paused, and journals and
    log written, after that, so that neither engine nor disk delays it.

    Every run looks again. The result contains what earlier runs froze, so that dependent steps are repeated for new
    processes only. So does a second try, which knows what the first has stopped.
    """
    began = context.first_try.freeze_began = context.first_try.freeze_began or ticks()
    host, state, log, files = context.adapters.host, context.state, context.log, context.cordon_files
    early = read_early(files.early)
    fresh: dict[Identity, Frozen] = {}
    hearing = None if early.frozen or early.containers else Hearing(context.workload.model_dump(include={*ASKED_BY}))
    groups, cordon = Groups(context), IncidentCordon(context)
    wrappers = Wrappers(host, state, cordon)
    if hearing:
        hearing.wait(alone=context.run.dry_run)  # a rehearsal holds up nothing
    groups.freeze()
    looks, settled = _settle(groups, fresh, early.frozen)
    units = Units(context)
    units.freeze()
    if context.run.includes_suspects or context.run.ends_unknown:  # after the members: they take longer to find
        groups.with_suspects = True
        more, all_settled = _settle(groups, fresh, {})
        looks, settled = looks + more, settled and all_settled
    for snapshot, halted in looks:
        fresh |= describe(snapshot, halted)
    stood_at = datetime.now(UTC)
    for snapshot, halted in looks:
        wrappers.note(snapshot, [identity.pid for identity in halted])
    if not state.since.read():
        state.since.write(began)
    everyone = _write_down(groups, snapshot, fresh)
    if (excused := let_go(groups, cordon, log, early.frozen)).gone:
        fresh = {identity: each for identity, each in fresh.items() if identity not in excused.gone}
        everyone = _write_down(groups, snapshot, fresh)  # a group around them may have been given up
        wrappers.give_back(excused.gone)
    strangers = standing_strangers(host, early.frozen, {each.identity for each in everyone} | excused.gone)
    take_over(files.early, strangers, groups.unthawed)
    groups.thaw()  # a signal that was sent to a frozen group shows then: all that look at states go by that
    waiting = _confirm(host, fresh)
    groups.freeze()
    unheard = note_listener(groups.membership, log, fresh)
    for identity, process in fresh.items():
        how = {"at": str(process.frozen_at), "way": process.way, "ran_seconds": round(age_of(identity.start))}
        what = {"role": process.role, "why": process.why, "command": process.command, "denied": process.denied}
        source = ", started by ".join(map(str, process.lineage))
        log.write("frozen", str(identity.pid), **what, **how, source=source)
    note_reboots(state, log)
    containers, trouble = WorkloadContainers(context).freeze(early.containers)
    note_named(log, context.workload, state, early.answer or (hearing.end() if hearing else ""))
    warnings = (*units.warnings, *unheard, *excused.warnings, *strangers.values())
    gpu = look_at_gpus(host, state, log, "freeze")
    context.first_try = FirstTry()
    return Freeze(stood_at, tuple(everyone), settled, containers, trouble, waiting, warnings, gpu)


def _write_down(groups: Groups, snapshot: Snapshot, fresh: dict[Identity, Frozen]) -> list[Frozen]:
    """Complete the records by how each is held, and write them down with what earlier runs froze."""
    state = groups.membership.state
    for identity in {each.identity for each in snapshot.values()} & fresh.keys():
        fresh[identity] = replace(fresh[identity], way=groups.way(snapshot[identity.pid]))
    everyone = with_earlier(load_frozen(state), fresh)
    state.frozen.write(everyone)
    return everyone


def _settle(groups: Groups, fresh: dict[Identity, Frozen], before: Mapping[Identity, datetime]) -> tuple[Looks, bool]:
    """Stop each process not in `fresh` yet, or woken since, until a look finds none; False if the time ran out.

    Members may wake each other by SIGCONT. What two looks do not settle goes into the incident's control group.
    """
    host, looks = groups.host, Looks()
    deadline = time.monotonic() + FREEZE_SECONDS
    while time.monotonic() < deadline:
        if len(looks) >= _BY_SIGNALS:
            groups.catch()
        snapshot: Snapshot = host.snapshot()
        running = {
            identity: member
            for identity, member in groups.find(snapshot).items()
            if not (was := fresh.get(identity)) or (was.frozen_at and not snapshot[identity.pid].stands)
        }
        since = {**groups.stopped, **before}
        halted = dict[Identity, Frozen]()
        for identity, member in running.items():
            row = halted[identity] = fresh[identity] = halt(host, snapshot[identity.pid], member, since.get(identity))
            if row.frozen_at and not row.stood:
                groups.stopped[identity] = row.frozen_at
        looks.append((snapshot, halted))
        reads_again = len(looks) == 1 and is_part(snapshot)  # a later look has more time for it
        if not groups.hold_in_place(snapshot) and not running and not groups.churns() and not reads_again:
            return looks, True
    return looks, False


def halt(host: Host, process: Process, member: Member, before: datetime | None = None) -> Frozen:
    """Stop one process. The record says why if that failed; `describe` completes it.

    `before` is when the early freeze stopped it, or its catch, and counts if the process is still stopped.
    """
    seen, denied = datetime.now(UTC), freeze_process(host, process)
    since = before if before and process.is_stopped else datetime.now(UTC)
    frozen_at = since if denied == "" else None
    row = Frozen(process.identity, member.role, "", process.user, seen, frozen_at, denied or "", member.why)
    return replace(row, stood=process.state == "T" and before is None)


def describe(snapshot: Snapshot, halted: Mapping[Identity, Frozen]) -> dict[Identity, Frozen]:
    """Complete the records of one look by command, lineage and flow run, which take too long before a signal.

    A flow run is the process's own, or that of the process that started it, as `train` does.
    """
    pids = [identity.pid for identity in halted]
    lines = lineages(snapshot, pids)
    runs = handed_down(snapshot, pids, "", lambda process, above: flow_run_of(process.pid) or above)
    since = handed_down(snapshot, pids, BOOT, lambda process, above: _memory_since(snapshot, process, above))
    return {
        key: replace(
            each,
            command=process_line(snapshot[key.pid]),
            lineage=lines[key.pid],
            run=runs[key.pid],
            since=since[key.pid],
            group=find_birthplace(snapshot, snapshot[key.pid]),
        )
        for key, each in halted.items()
    }


def _memory_since(snapshot: Snapshot, process: Process, above: int) -> int:
    """Return since when a process may have had what it has in memory; `above` is that of its parent."""
    parent = snapshot.get(process.parent)
    if not process.forked:
        return process.identity.start
    return above if parent and parent.pid > 1 and parent.executable == process.executable else BOOT


def _confirm(host: Host, fresh: Mapping[Identity, Frozen]) -> tuple[str, ...]:
    """Wait until the kernel shows each as stopped; return those that stay in an uninterruptible wait."""
    waiting = {identity for identity, process in fresh.items() if process.frozen_at}

    def all_are_stopped() -> bool:
        nonlocal waiting
        waiting = {each for each in waiting if (now := host.get_process(each)) and now.alive and not now.is_stopped}
        return not waiting

    poll_until(all_are_stopped, _SETTLE_SECONDS, _POLL_SECONDS)
    remaining = {each for each in waiting if (now := host.get_process(each)) and now.state == "D"}
    return tuple(f"{each.pid} {fresh[each].command}" for each in sorted(remaining))
