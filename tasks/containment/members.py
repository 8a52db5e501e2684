"""Find the members of the workload, and the processes that are never touched."""

from collections.abc import Iterable, Mapping
from os import getpid
from typing import TYPE_CHECKING

from tasks.containment.answers import ended_by_answer, excused_by_answer
from tasks.custody.containment.identity import Identity
from tasks.host.cgroup.ownership import path_of, within
from tasks.host.process.membership import Exceptions, Member, Members, find_excused
from tasks.host.process.process import Process, descendants, family, pids_of
from tasks.host.process.table import untouchable
from tasks.host.workload import describe

if TYPE_CHECKING:
    from pathlib import Path

    from blocks.workload_fields import WorkloadFields
    from tasks.host.host import Host
    from tasks.host.process.workload import WorkloadDescription
    from tasks.runtime.context import RunContext
    from tasks.runtime.state import IncidentState

Snapshot = Mapping[int, Process]


def description_of(workload: "WorkloadFields") -> "WorkloadDescription":
    """Return what tells the processes of a block's workload."""
    return describe(dict(workload))


def exceptions_of(context: "RunContext", snapshot: Snapshot) -> Exceptions:
    """Return what is never touched (what keeps us alive, our guard, what our own recovery started), and the answers."""
    ours = own_pids(context, snapshot) | untouchable(snapshot)
    return Exceptions(frozenset(ours), excused=excused_by_answer(context.state), ended=ended_by_answer(context.state))


def find_members(
    context: "RunContext", snapshot: Snapshot, groups: Iterable[str] | None = None
) -> dict[Identity, Member]:
    """Return every live process of the workload, parents first, and all in the control groups that hold it.

    `groups` are by default those of the incident's journal. What `bystanders` excuse is not the workload there either.
    What a person said is to be ended belongs to it, with its descendants.
    """
    exceptions, tops = exceptions_of(context, snapshot), held_groups(context.state) if groups is None else groups
    description = description_of(context.workload)
    found = Members.of(snapshot, description, exceptions)
    spared = exceptions.ours | find_excused(snapshot, description, exceptions)
    rest = inside(snapshot, tops).difference(spared, (identity.pid for identity in found))
    return found | {snapshot[pid].identity: Member("helper", "in the workload's control group") for pid in rest}


def excused_pids(context: "RunContext", snapshot: Snapshot) -> frozenset[int]:
    """Return pids that the block's `bystanders` or a person's answer excuse."""
    return find_excused(snapshot, description_of(context.workload), exceptions_of(context, snapshot))


def held_groups(state: "IncidentState") -> list[str]:
    """Return the control groups that this incident has frozen."""
    return [row.group for row in state.groups.read() if not row.identity]


def inside(snapshot: Snapshot, groups: Iterable[str]) -> set[int]:
    """Return pids of the processes in these control groups or below."""
    tops = tuple(groups)
    living = (process for process in snapshot.values() if tops and process.alive and not process.container)
    return {each.pid for each in living if any(within(path_of(each.cgroup), top) for top in tops)}


def protected_pids(context: "RunContext", snapshot: Snapshot) -> frozenset[int]:
    """Return pids that are never touched."""
    return exceptions_of(context, snapshot).ours


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
