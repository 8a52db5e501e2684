"""Who belongs to the workload, and who is never touched."""

from collections.abc import Iterable, Mapping
from os import getpid
from typing import TYPE_CHECKING

from tasks.containment.patterns import matchers, named
from tasks.custody.containment.groups import path_of, within
from tasks.custody.containment.membership import Member, excused, members
from tasks.custody.containment.process import Identity, Process, descendants, family, pids_of
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
    """Every living process of the workload, parents first; with all that is in a control group that holds it.

    These groups are those of the incident's journal, unless others are given.
    """
    spared, tops = protected_pids(context, snapshot), held_groups(context.state) if groups is None else groups
    found = members(snapshot, matchers(context.workload), context.directory.root, spared, named(context.workload))
    rest = inside(snapshot, tops).difference(spared, (who.pid for who in found))
    return found | {snapshot[pid].identity: Member("helper", "in the workload's control group") for pid in rest}


def excused_pids(context: "RunContext", snapshot: Snapshot) -> frozenset[int]:
    """Pids of those that the block's `bystanders` excuse."""
    return excused(snapshot, matchers(context.workload), context.directory.root, named(context.workload))


def held_groups(state: "IncidentState") -> list[str]:
    """The control groups that this incident has frozen."""
    return [row.group for row in state.groups.read() if not row.identity]


def inside(snapshot: Snapshot, groups: Iterable[str]) -> set[int]:
    """Pids of those that live in these control groups or below."""
    tops = tuple(groups)
    living = (process for process in snapshot.values() if tops and process.alive and not process.container)
    return {each.pid for each in living if any(within(path_of(each.cgroup), top) for top in tops)}


def protected_pids(context: "RunContext", snapshot: Snapshot) -> set[int]:
    """Pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    return own_pids(context, snapshot) | untouchable(snapshot)


def own_pids(context: "RunContext", snapshot: Snapshot) -> set[int]:
    """Pids of our guards, and of the API that our own recovery brought back with all that descends from it."""
    host, files = context.adapters.host, context.cordon_files
    guards = {guard_of(host, files.marker), host.guard(files.standing)}
    return family(snapshot, context.state.recovered.read()) | pids_of(snapshot, guards)


def excluded_pids(snapshot: Snapshot) -> set[int]:
    """Those that are never touched, and our own collectors, which may work in the root."""
    return untouchable(snapshot) | descendants(snapshot, [getpid()])


def guard_of(host: "Host", marker: "Path") -> Identity | None:
    """Return the guard that stands: by its marker, or the one that this run has started and that is about to write it.

    Asked of the host and not taken from the cordon's result: a recovery that fails starts another guard.
    """
    return host.guard(marker) or host.started_guard
