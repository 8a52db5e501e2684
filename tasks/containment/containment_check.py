"""§3: check that nothing of the workload is left alive, and describe its state."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from tasks.containment.api_port import counted_port, strangers_on
from tasks.containment.containers.collected import collected_folders
from tasks.containment.containers.pause import WorkloadContainers, paused_ids
from tasks.containment.containers.unnamed import ask_engine, find_unnamed, list_ids
from tasks.containment.cordon import IncidentCordon
from tasks.containment.gpu import look_at_gpus
from tasks.containment.members import Membership, Snapshot, excluded_pids, inside
from tasks.containment.silence import listen, with_silence
from tasks.containment.starters import Starters, find_starters, reasons_to_stop
from tasks.containment.supervisors import cure, launchers_of_new, parents_left, started_again
from tasks.containment.suspects import find_accounts, suggest_line, take_roster, tell_starter
from tasks.containment.units import standing_units
from tasks.containment.writers import find_changes_by_unknown, find_possible_starters, find_writers, with_unrest
from tasks.custody.containment.gpu import GpuUse
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment, End, Unknown
from tasks.custody.errors import EngineError
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.stance import Stance
from tasks.host.cgroup.ownership import home_of, keeper_of, path_of
from tasks.host.host import Host, lives
from tasks.host.judgement.case import Judgement, Kind
from tasks.host.judgement.roster import Roster
from tasks.host.judgement.suspect import (
    advice,
    excuse,
    excuse_with_source,
    fold_alike,
    tell_other_end,
    who_started,
    with_restarting_source,
)
from tasks.host.process.newcomer import again_and_again, living_source
from tasks.host.process.process import Process, pids_of, process_line
from tasks.host.process.source import source_of
from tasks.host.rights import hidden_from_us
from tasks.host.short_lived import NO_PID, come_and_gone, met_in_passing
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_announced, load_frozen, load_stopped, stopped_containers
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step

_SHOWN: Final = 100
_NAMED: Final = 3


def check_containment(context: RunContext) -> Containment:
    """Check that no member or frozen process lives, and that the lock is held (runbook §3).

    Also looks for processes too short-lived for one look, and for other programs on the API's port.
    """
    host, state, log, engine = context.adapters.host, context.state, context.log, context.adapters.engine
    guarded, workload, is_recovered = IncidentCordon(context), context.workload, bool(state.recovered.read())
    listing = ask_engine(engine, workload.containers)
    last, _ = host.arrivals(NO_PID)
    cordon, membership, containers = guarded.wait(), Membership(context), WorkloadContainers(context)
    ours, roster = look_for_life(membership, containers, list_ids(listing))
    visible, known_alive, newcomers = roster.snapshot, roster.alive, guarded.newcomers()
    returned = (each for each in state.returned.read() if each.end is End.HELD)
    held = {each.identity: each.source for each in returned if each.identity in known_alive}
    alive = known_alive | {
        identity: f"left frozen, {source} brings it back{cure(membership, visible, identity, source)}"
        for identity, source in held.items()
    }
    starters = find_starters(membership, newcomers, visible)
    living = reasons_to_stop(membership, visible, starters, {*alive, *map(str, held.values())})
    for each in (*(starter for starter, _ in living), *starters.entries):
        log.write("starter", each.place, why=each.why)
    named = {each.identity for each, _ in living}
    again, launchers = ({}, {}) if is_recovered else _find_launchers(membership, visible, newcomers, named, alive)
    unnamed, others = find_unnamed(membership, engine, log, listing, visible, containers.read_views())
    gpu = look_at_gpus(host, state, log, "check") or GpuUse()
    suspects = [visible[identity.pid] for identity in sorted(roster.suspects.keys() - load_frozen(state).keys())]
    lines = {each: suggest_line(host, workload, each, roster) for each in suspects}
    rows = [] if is_recovered else find_changes_by_unknown(context).earlier
    return Containment(
        at=datetime.now(UTC),
        alive=(
            *(
                f"{_tell(process)} ({reason}{_advise_on_keeper(process)}{more})"
                f"{_advise_on_suspect(roster, lines, process)}"
                for process, reason, more in _fold_suspects(roster, alive)
            ),
            *_find_listeners(membership, ours | membership.excused_pids(visible), alive),
            *(line for _, line in living),
            *(f"{_tell(each)} (it has started the workload again 再起動の元: {why})" for each, why in again.items()),
            *_find_short_lived(membership, last, visible),
            *containers.tell_living(),
            *unnamed.values(),
            *gpu.held,
            *_warn_of_hidden(),
            *standing_units(host.systemd, () if is_recovered else workload.units),
        ),
        cordoned=cordon.held,
        reason=cordon.summary,
        left_alone=tuple(_tell(process) for process in roster.processes(Kind.TOLD)),
        notes=(
            *again_and_again(visible, newcomers),
            *_notes(membership, log, roster, launchers | again, lines),
            *starters.notes,
            *others,
            *filter(None, [gpu.trouble]),
        ),
        recovered=is_recovered or bool(state.recovered_containers.read()),
        unknown=_unknown(membership, log, roster, starters, launchers, _find_writers(membership, log, roster, rows)),
        suspects=tuple(
            Unknown(each.identity, process_line(each, _SHOWN), roster.suspects[each.identity], excuse(roster, each))
            for each in suspects
            if not each.container
        ),
    )


def _find_launchers(
    membership: Membership,
    visible: Snapshot,
    newcomers: Sequence[Mapping[str, Any]],
    named: Container[Identity | None],
    alive: Container[Identity],
) -> tuple[dict[Process, str], dict[Process, str]]:
    """Return who has started the workload again, and who may, each with why; a bystander has to be seen to do it.

    Who is `named` with a way to stop it is in neither, nor who is `alive` and has started newcomers alone.
    """
    late, parents = launchers_of_new(membership, visible, newcomers), dict(parents_left(membership, visible))
    brought, excused = started_again(membership.state, newcomers), membership.excused_pids(visible)
    found = {each: why for each, why in late if each.identity not in alive} | parents
    again = {
        each: why for each, why in parents.items() if each.identity not in named and str(source_of(each)) in brought
    }
    may = {each: why for each, why in found.items() if each.identity not in named and each.pid not in excused}
    return again, {each: why for each, why in may.items() if each not in again}


def _fold_suspects(roster: Roster, alive: Mapping[Identity, str]) -> list[tuple[Process, str, str]]:
    """Return what is alive with the reasons: each member, and of suspects that are alike the first, with a count."""
    snapshot, suspects = roster.snapshot, roster.suspects
    members = [(snapshot[each.pid], why, "") for each, why in alive.items() if each not in suspects]
    found = ((snapshot[each.pid], why) for each, why in alive.items() if each in suspects)
    rows = ((each, with_restarting_source(snapshot, each, why, alive)) for each, why in found)
    return [*members, *fold_alike(roster, rows)]


def _unknown(  # noqa: PLR0913, PLR0917  whom each part of the check asks about
    membership: Membership,
    log: CustodyLog,
    roster: Roster,
    starters: Starters,
    launchers: Mapping[Process, str],
    others: Iterable[tuple[Process, str]],
) -> tuple[Unknown, ...]:
    """Return the processes that a person has to answer, with those that the roster does not ask about; log each.

    `launchers` have started what was stopped: a line that excuses what has started one of them says nothing of it.
    """
    found, frozen = {each.identity: each for each in starters.unknown}, load_frozen(membership.state).values()
    line_of = partial(excuse, roster)
    for process, why in (*launchers.items(), *roster.of(Kind.UNKNOWN), *others):
        reason = f"{why}; {who_started(roster.snapshot, process.pid)}"
        is_launcher = process in launchers
        line = line_of(process) if is_launcher else excuse_with_source(roster.snapshot, process, line_of)
        started = {each.role for each in frozen if process.identity in {above.identity for above in each.lineage}}
        if starter := tell_starter(membership.workload, process, started):
            line = f"{starter}; if it is no part of it 無関係なら: {line}"
        each = Unknown(process.identity, process_line(process, _SHOWN), reason, line)
        found.setdefault(process.identity, each)
    for each in found.values():
        log.write("unknown", str(each.identity.pid), command=each.command, why=each.why)
    return tuple(found.values())


def _find_writers(
    membership: Membership, log: CustodyLog, roster: Roster, unexplained: Sequence[Mapping[str, Any]]
) -> list[tuple[Process, str]]:
    """Return who has, or may have, changed a file after the stop, lives, and is judged by no other fact."""
    accounts = find_accounts(membership)
    found = find_possible_starters(unexplained, roster.snapshot, accounts)
    found |= find_writers(log.entries(), roster.snapshot, accounts)
    judged = {Kind.MEMBER, Kind.SUSPECT, Kind.UNKNOWN, Kind.EXCUSED, Kind.OURS}
    spared = membership.bystander_pids(roster.snapshot) if found else frozenset[int]()
    kinds = {identity: each.kind for identity, each in roster.judgements.items()}
    return [
        (each, why) for each, why in found.items() if kinds.get(each.identity) not in judged and each.pid not in spared
    ]


def _advise_on_suspect(roster: Roster, lines: Mapping[Process, str], process: Process) -> str:
    """Return the block's lines that make a suspect of these a member, and that excuse it; each if there is one.

    The reason of one in a container has its cure.
    """
    if process not in lines:
        return ""
    own = "" if process.container else lines[process] or tell_other_end(roster, process)
    ways = {"if it belongs to the workload": own, "if it is another's 無関係なら": excuse(roster, process)}
    return "".join(f"; {when}: {line}" for when, line in ways.items() if line)


def _notes(
    membership: Membership,
    log: CustodyLog,
    roster: Roster,
    parents: Mapping[Process, str],
    lines: Mapping[Process, str],
) -> tuple[str, ...]:
    """Return how the block can name each suspect, and who was excused or could not be examined, in one line each.

    `parents`, which may start the workload again, are only logged here. `lines` make suspects members.
    """
    facts, visible = roster.suspects, roster.snapshot
    for each, line in lines.items():
        log.write("suspect", str(each.pid), command=process_line(each), why=facts[each.identity], line=line)
    named = membership.excused_pids(visible)
    for process, why in parents.items():
        log.write("parent lives", str(process.pid), command=process_line(process), why=why)
    excused, unread = roster.processes(Kind.EXCUSED), roster.processes(Kind.UNREAD)
    for each in (each for each in excused if each not in parents):
        why = "the block's bystanders" if each.pid in named else "a program of the host that only reads or edits"
        log.write("excused", str(each.pid), command=process_line(each), why=why)
    counted = ((excused, "excused 除外"), (unread, "may not be looked into, which proves nothing 確認不可"))
    others = (f"{len(found)} {meaning}: {_format_processes(found)}" for found, meaning in counted if found)
    rows = fold_alike(roster, ((each, facts[each.identity]) for each in lines))
    ways = ((each, tell_other_end(roster, each), excuse(roster, each), more) for each, _, more in rows)
    return (*(f"{advice(each, lines[each], other, line)}{more}" for each, other, line, more in ways), *others)


def _format_processes(processes: Sequence[Process]) -> str:
    lines = [_tell(process) for process in processes[:_NAMED]]
    return ", ".join([*lines, "…"] if len(processes) > _NAMED else lines)


def _find_listeners(membership: Membership, ours: Collection[int], reported: Container[Identity]) -> list[str]:
    """Return other programs that listen on the API's port."""
    workload, state = membership.workload, membership.state
    port, known = counted_port(workload, state), _known_containers(state)
    return [
        f"{_tell(each.process) if each.process else f'a program of user {each.user}'} ({reason})"
        for each, reason in strangers_on(port, membership.host, workload, ours, known)
        if not each.process or each.process.identity not in reported
    ]


def _find_short_lived(membership: Membership, last: int, visible: Snapshot) -> list[str]:
    """Return whether processes of the workload come and go. `last` is the last pid given out before the look.

    Our collectors may end with the programs that they run: what was `visible` before tells whose these were.
    """
    short_lived = {process.pid: process for process in met_in_passing(membership.host, last)}
    if not short_lived:
        return []
    snapshot = membership.host.snapshot()
    seen = {**visible, **short_lived, **snapshot}
    ours, kept = membership.own_pids(seen), excluded_pids(seen) | membership.excused_pids(seen)
    others = [process for pid, process in short_lived.items() if pid not in ours]
    found = come_and_gone(others, snapshot, membership.description, kept)
    if not found:
        return []
    ended = {pid: process for pid, process in short_lived.items() if pid not in snapshot}
    sources = {identity: living_source(snapshot, ended, identity.pid) for identity in found if identity.pid in ended}
    # the control group of one that ended meanwhile is unread
    processes = (short_lived[identity.pid] for identity in found)
    one = max(processes, key=lambda process: (bool(sources.get(process.identity)), bool(process.cgroup)))
    unit = home_of(one.cgroup)
    way = sources.get(one.identity) or f"end them by their systemd unit or control group ({unit}) or restart the host"
    message = (
        f"{len(found)} processes came and went during the check, too fast to be stopped, as "
        f"{_tell(one)} ({found[one.identity]}); {way}, then carry the incident on{_advise_on_keeper(one)}"
    )
    return [message]


def _warn_of_hidden() -> tuple[str, ...]:
    """Return that processes may be left which /proc does not show us, and what to do."""
    message = "whether processes of other accounts are left is not known: /proc hides them"
    cure = "run the evacuation with CAP_SYS_PTRACE or in the group that gid= of /proc names, and carry the incident on"
    return (f"{message} ({option}); {cure}",) if (option := hidden_from_us()) else ()


def stance(context: RunContext, containment: Containment | None) -> Stance:
    """Return how the workload stands, as a cancelled run reports it."""
    if context.run.dry_run:
        return Stance.UNTOUCHED
    if containment and containment.is_contained:
        return Stance.AS_FAR_AS_KNOWN if containment.unknown else Stance.CONTAINED
    if context.state.recovered.read():
        return Stance.RELEASED
    containers = WorkloadContainers(context)
    frozen = find_standing(IncidentCordon(context), context.state)
    _, roster = look_for_life(Membership(context), containers)
    still = [identity in frozen and roster.snapshot[identity.pid].is_stopped for identity in roster.alive]
    try:
        still += [container.state == "paused" for container in containers.find()]
    except EngineError:
        return Stance.NOT_CONTAINED
    if not still or not all(still):
        return Stance.NOT_CONTAINED
    running = [identity for identity in roster.unknown if not roster.snapshot[identity.pid].is_stopped]
    if find_stopped(context.state, context.adapters.host):
        sure, unsure = Stance.REST_FROZEN, Stance.REST_FROZEN_AS_FAR_AS_KNOWN
    else:
        sure, unsure = Stance.FROZEN, Stance.FROZEN_AS_FAR_AS_KNOWN
    return unsure if running else sure


def find_stopped(state: IncidentState, host: Host) -> int:
    """Return how much of the workload has ended since its stop began, for which a thaw is refused."""
    if not why_not_thaw(state.home):
        return 0
    ended = {identity for identity in load_frozen(state) if not lives(host, identity)}
    return len(ended | load_stopped(state).keys()) + len(stopped_containers(state))


def find_standing(cordon: IncidentCordon, state: IncidentState) -> set[Identity]:
    """Return what this incident has stopped: what it froze, and what was started since and is held by stop or guard."""
    held = {identity for identity, _ in cordon.held_processes()}
    return held | load_frozen(state).keys() | load_announced(state).keys()


def find_endable(cordon: IncidentCordon, membership: Membership) -> set[int]:
    """Return pids of all that carrying the incident on ends: what it has stopped, and what is a member now."""
    snapshot = membership.host.snapshot()
    return pids_of(snapshot, {*find_standing(cordon, membership.state), *membership.members(snapshot)})


def look_for_life(
    membership: Membership, containers: WorkloadContainers, listed: frozenset[str] | None = None
) -> tuple[set[int], Roster]:
    """Look at the host: return our own pids, and the roster of all other processes; `listed` is as of a roster."""
    host, state, snapshot = membership.host, membership.state, membership.host.snapshot()
    ours = membership.own_pids(snapshot)
    others = {pid: process for pid, process in snapshot.items() if pid not in ours}
    exceptions, known = membership.exceptions(snapshot), _known_containers(state)
    shared = collected_folders(membership.workload, containers.read_views())
    roster = take_roster(
        host,
        membership.workload,
        others,
        exceptions,
        known,
        shared=shared,
        sockets=state.sockets.read(),
        listed=listed,
        accounts=find_accounts(membership),
    )
    visible, alive = roster.snapshot, roster.alive  # without those that have ended meanwhile
    held = pids_of(visible, load_frozen(state)) | inside(visible, membership.held_groups())
    remaining = (each for each in map(visible.__getitem__, held) if each.alive and each.identity not in alive)
    more = {each.identity: "it was frozen and lives" for each in remaining}
    within = {each.container for each in visible.values() if each.container and each.alive} & paused_ids(state)
    ended = containers.select_ended(within)
    strays = (each for each in visible.values() if each.container in ended and lives(host, each.identity))
    more |= {each.identity: f"the engine calls its container ended; end it: kill -9 {each.pid}" for each in strays}
    found = {identity: Judgement(Kind.MEMBER, why) for identity, why in more.items()}
    return ours, replace(roster, judgements={**roster.judgements, **found})


def _known_containers(state: IncidentState) -> set[str]:
    return {each.id for each in (*frozen_containers(state), *state.recovered_containers.read())}


@step("prove_contained", "check: nothing of the workload is left", section="§3", ja="封じ込めの確認", retries=2)
def prove_contained(context: RunContext) -> Containment:
    """Check right after the stop. Listens from now on if an earlier run did the stop."""
    listen(context, armed=True, settles=False)
    return _check_for_record(context, compare=False)


@step(
    "prove_still_contained",
    "check: nothing of the workload came back",
    section="§3",
    ja="再出現なしの確認",
    retries=2,
    last=True,
)
def prove_still_contained(context: RunContext) -> Containment:
    """Check again when the evidence is safe, because a supervisor may have restarted the workload."""
    return _check_for_record(context, compare=True)


def _check_for_record(context: RunContext, *, compare: bool) -> Containment:
    """Check, with what has changed since the stop; write down which processes a person has to answer."""
    found = with_silence(context, check_containment(context), compare=compare)
    found = with_unrest(context, found) if compare else found
    context.state.unknown.write([*found.unknown, *found.suspects])
    return found


def _advise_on_keeper(process: Process) -> str:
    """Return how a person ends a process that an orchestrator runs; empty for containers, reported elsewhere."""
    keeper = "" if process.container else keeper_of(path_of(process.cgroup))
    return keeper and f"; {keeper}"


def _tell(process: Process) -> str:
    where = f" in container {process.container[:12]}" if process.container else ""
    return f"{process.pid}: {process_line(process, _SHOWN)}{where}"
