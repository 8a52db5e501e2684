"""Find the members of the workload, and the processes that are never touched."""

from collections.abc import Iterable, Mapping
from os import getpid
from typing import TYPE_CHECKING

from tasks.containment.answers import ended_by_answer, excused_by_answer
from tasks.containment.patterns import matchers, named
from tasks.custody.containment.groups import path_of, within
from tasks.custody.containment.membership import Member, excused, members
from tasks.custody.containment.process import Identity, Process, descendants, family, parents_first, pids_of
from tasks.system.processes import untouchable

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.adapters.host import Host
    from tasks.runtime.context import RunContext
    from tasks.runtime.state import IncidentState

Snapshot = Mapping[int, Process]


def find_members(
    context: "RunContext", snapshot: Snapshot, groups: Iterable[str] | None = None
) -> dict[Identity, Member]:
    """Return every live process of the workload, parents first, and all in the control groups that hold it.

    `groups` are by default those of the incident's journal. What `bystanders` excuse is not the workload there either.
    What a person said is to be ended belongs to it, with its descendants.
    """
    spared, tops = protected_pids(context, snapshot), held_groups(context.state) if groups is None else groups
    found = members(snapshot, matchers(context.workload), context.directory.root, spared, named(context.workload))
    others = {*spared, *excused_pids(context, snapshot), *(who.pid for who in found)}
    living = {pid: each for pid, each in snapshot.items() if each.alive and not each.container}
    ended = family(living, ended_by_answer(context.state)) - others
    why = dict.fromkeys(inside(snapshot, tops) - others, "in the workload's control group")
    why |= dict.fromkeys(parents_first(snapshot, ended), "a person answered that it is to be ended")
    return found | {snapshot[pid].identity: Member("helper", reason) for pid, reason in why.items()}


def excused_pids(context: "RunContext", snapshot: Snapshot) -> frozenset[int]:
    """Return pids that the block's `bystanders` or a person's answers excuse.

    An answer also excuses the descendants, down to one that matches: a person may start the workload from it later.
    """
    known, root = matchers(context.workload), context.directory.root
    by_block = excused(snapshot, known, root, named(context.workload))
    if not (answered := excused_by_answer(context.state)):
        return by_block
    others = {pid: each for pid, each in snapshot.items() if not any(one.recognises(each, root) for one in known)}
    return by_block | family(others, answered)


def held_groups(state: "IncidentState") -> list[str]:
    """Return the control groups that this incident has frozen."""
    return [row.group for row in state.groups.read() if not row.identity]


def inside(snapshot: Snapshot, groups: Iterable[str]) -> set[int]:
    """Return pids of the processes in these control groups or below."""
    tops = tuple(groups)
    living = (process for process in snapshot.values() if tops and process.alive and not process.container)
    return {each.pid for each in living if any(within(path_of(each.cgroup), top) for top in tops)}


def protected_pids(context: "RunContext", snapshot: Snapshot) -> set[int]:
    """Return pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    return own_pids(context, snapshot) | untouchable(snapshot)


def own_pids(context: "RunContext", snapshot: Snapshot) -> set[int]:
    """Return pids of our guards, and of the API that our own recovery started, with its descendants."""
    host, files = context.adapters.host, context.cordon_files
    guards = {guard_of(host, files.marker), host.guard(files.standing)}
    return family(snapshot, context.state.recovered.read()) | pids_of(snapshot, guards)


def excluded_pids(snapshot: Snapshot) -> set[int]:
    """Return pids that are never touched, and our own collectors, which may work in the workload's root."""
    return untouchable(snapshot) | descendants(snapshot, [getpid()])


def guard_of(host: "Host", marker: "Path") -> Identity | None:
    """Return the standing guard: by its marker, else the one that this run has just started.

    Asks the host, not the cordon's result, because a failed recovery starts another guard.
    """
    return host.guard(marker) or host.started_guard
