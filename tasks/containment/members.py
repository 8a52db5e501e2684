"""Who belongs to the workload, and who is never touched."""

from collections.abc import Mapping
from os import getpid

from tasks.containment.cordon import guard_of, matchers, named
from tasks.custody.containment.membership import Member, excused, members
from tasks.custody.containment.process import Identity, Process, descendants, family, pids_of
from tasks.runtime.context import RunContext
from tasks.system.processes import untouchable

Snapshot = Mapping[int, Process]


def find_members(context: RunContext, snapshot: Snapshot) -> dict[Identity, Member]:
    """Every living process of the workload, parents first."""
    spared = protected_pids(context, snapshot)
    return members(snapshot, matchers(context.workload), context.root, spared, named(context.workload))


def excused_pids(context: RunContext, snapshot: Snapshot) -> frozenset[int]:
    """Pids of those that the block's `bystanders` excuse."""
    return excused(snapshot, matchers(context.workload), context.root, named(context.workload))


def protected_pids(context: RunContext, snapshot: Snapshot) -> set[int]:
    """Pids that are never touched: what keeps us alive, our guard, and what our own recovery started."""
    return own_pids(context, snapshot) | untouchable(snapshot)


def own_pids(context: RunContext, snapshot: Snapshot) -> set[int]:
    """Pids of our guard, and of the API that our own recovery brought back with all that descends from it."""
    return family(snapshot, context.recovered()) | pids_of(snapshot, {guard_of(context)})


def excluded_pids(snapshot: Snapshot) -> set[int]:
    """Those that are never touched, and our own collectors, which may work in the root."""
    return untouchable(snapshot) | descendants(snapshot, [getpid()])
