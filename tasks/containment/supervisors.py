"""§3: find which process or unit may start the workload again, and whether the evacuation may stop it.

See docs/adr/0009.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from tasks.containment.members import Membership, Snapshot
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End, Frozen, Source
from tasks.host.cgroup.ownership import home_of, unit_of
from tasks.host.launch_files import on_terminal
from tasks.host.process.known_programs import SHELLS, is_one_of
from tasks.host.process.process import Process, pids_of
from tasks.host.process.source import (
    find_birthplace,
    is_bare,
    keeps_only,
    lineage,
    lineages,
    may_be_ended,
    may_restart,
    source_of,
)
from tasks.host.process.table import ticks
from tasks.runtime.frozen import load_frozen
from tasks.runtime.state import IncidentState

BY: Final = ", started by "
"""Stands between the sources of a process where they are written in one line."""
_OF_PROCESS: Final = re.compile(r"process (\d+) \(")
ALLOW: Final = "set stop_supervisors = true in the workload block"


def may_start_again(snapshot: Snapshot, process: Process) -> bool:
    """Return whether a process may start again what it has started: also a shell that is fed by no person.

    A runner of CI gives one its script by a pipe. Of another account's the terminal of its session tells.
    """
    is_fed = is_one_of(SHELLS, process) and is_bare(process.command) and not on_terminal(process)
    return may_restart(snapshot, process) or (is_fed and not (process.placeless and process.terminal))


def find_launchers(snapshot: Snapshot, members: Collection[Identity]) -> list[Process]:
    """Return who has started living members and may do so again; what it has started them by may end with them."""
    lines = lineages(snapshot, [each.pid for each in members]).values()
    near = (next((source.identity for source in line if source.identity not in members), None) for line in lines)
    born = ((find_birthplace(snapshot, snapshot[each.pid]), each.start) for each in members)
    beside = {each.pid for each in _find_beside(snapshot, born) if each.identity not in members}
    found = sorted(beside.union(identity.pid for identity in near if identity))
    return [snapshot[pid] for pid in found if pid in snapshot and may_start_again(snapshot, snapshot[pid])]


def _find_beside(snapshot: Snapshot, born: Iterable[tuple[str, int]]) -> Iterator[Process]:
    """Yield who lives where these were `born`, by group and time, since before the last: each may have started it."""
    last = dict(sorted((group, start) for group, start in born if group))
    for each in snapshot.values():
        if each.alive and each.identity.start <= last.get(home_of(each.cgroup), -1):
            yield each


def may_stop(membership: Membership, snapshot: Snapshot, source: Source, family: Iterable[Identity]) -> bool:
    """Return whether no other work depends on a source: a unit of the workload alone, no login, not us."""
    known = {identity.pid for identity in family}
    if source.identity:
        process = snapshot.get(source.identity.pid)
        may_end = process and process.pid not in membership.protected_pids(snapshot) and may_be_ended(process)
        return bool(may_end) and keeps_only(snapshot, source.identity.pid, known)
    return all(process.pid in known for process in snapshot.values() if unit_of(process.cgroup) == source.name)


def cure(membership: Membership, snapshot: Snapshot, identity: Identity, name: str) -> str:
    """Return the advice to set `stop_supervisors`, if a run could then stop the source `name`; else empty."""
    source = next((each for each in lineage(snapshot, identity.pid) if str(each) == name), None)
    held = [each.identity for each in membership.state.returned.read() if each.end is End.HELD]
    may = source and not membership.workload.stop_supervisors and may_stop(membership, snapshot, source, held)
    return f"; to have it stopped, {ALLOW}" if may else ""


def started_again(state: IncidentState, caught: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the sources of what was started after the freeze, as the guard (`caught`) and the watch wrote them."""
    return {source for line in _lines_of_new(state, caught) for source in line.split(BY)}


def _lines_of_new(state: IncidentState, caught: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sources of each that was started after the freeze, in one line, nearest first.

    What a frozen process has forked meanwhile is left out: nobody but that has started it.
    """
    since, frozen = state.since.read() or ticks(), {identity.pid for identity in load_frozen(state)}
    new = (row for row in caught if (identity := Identity.of(row)) and identity.start >= since)
    lines = (*(str(row.get("source", "")) for row in new), *(each.source for each in state.returned.read()))
    return [line for line in lines if not (by := _OF_PROCESS.match(line)) or int(by[1]) not in frozen]


def launchers_of_new(
    membership: Membership, snapshot: Snapshot, caught: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Process, str]]:
    """Yield each living process that has started something after the freeze, and may do so again.

    Nothing of it need have been there to be frozen.
    """
    spared = membership.protected_pids(snapshot)
    for line in _lines_of_new(membership.state, caught):
        pids = map(int, _OF_PROCESS.findall(line))
        above = (snapshot[pid] for pid in pids if pid in snapshot and snapshot[pid].alive)
        process = next((each for each in above if str(source_of(each)) in line), None)
        if process and process.pid not in spared and may_start_again(snapshot, process):
            yield process, "it has started the workload after the freeze, and may start it again: stop it first"


def _is_apart(source: Source, frozen: Mapping[Identity, Frozen], role: str) -> bool:
    """Return whether a source is not itself what it has started, as `timeout` is, which has the same command line."""
    known = frozen.get(source.identity) if source.identity else None
    return known is None or known.role != role


def parents_left(membership: Membership, snapshot: Snapshot) -> Iterator[tuple[Process, str]]:
    """Yield each living process that started one of the frozen and may start it again, and how to prevent that.

    Of what has ended since, as a shell or `timeout`, what had started that counts; of what nobody is seen to have
    started, who lives in its control group since before it. Left out are those that the watch would stop, and those
    whose newcomers stand frozen: the check names them.
    """
    state, workload = membership.state, membership.workload
    frozen, spared = load_frozen(state), membership.protected_pids(snapshot)
    returned = (each for each in state.returned.read() if each.end is End.HELD)
    sources = {each.source for each in returned if pids_of(snapshot, [each.identity])}
    there = {each.identity for each in snapshot.values() if each.alive} | frozen.keys()
    started: dict[Source, set[str]] = {}
    for each in frozen.values():
        above = (source for source in each.lineage if _is_apart(source, frozen, each.role))
        if nearest := next((source for source in above if source.identity in there), None):
            started.setdefault(nearest, set()).add("API" if each.role == "api" else each.role)
    others = (each for each in snapshot.values() if each.alive and each.pid not in spared)
    living: Mapping[Identity | None, Process] = {each.identity: each for each in others}
    for source, roles in started.items():
        process = living.get(source.identity) if source.identity not in frozen and str(source) not in sources else None
        if not process or not may_start_again(snapshot, process):
            continue
        may = may_stop(membership, snapshot, source, frozen)
        if not (may and workload.stop_supervisors):
            advice = f"{ALLOW}, or stop it first" if may else "stop it first"
            yield process, f"it is the parent of the {' and the '.join(sorted(roles))} and may start it again: {advice}"
    apart = living.keys() - frozen.keys() - {source.identity for source in started}
    for process in _find_beside(snapshot, ((each.group, each.identity.start) for each in frozen.values())):
        if process.identity in apart and may_start_again(snapshot, process):
            why = f"the workload was started in {home_of(process.cgroup)} by nobody who is seen"
            yield process, f"{why}; it is there since before, and may start it again: stop it first"
