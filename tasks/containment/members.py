"""Find the members of the workload, and the processes that are never touched."""

from collections.abc import Iterable, Mapping
from os import getpid
from typing import TYPE_CHECKING

from tasks.custody.containment.answer import answered_processes
from tasks.custody.containment.identity import Identity
from tasks.host.cgroup.ownership import path_of, within
from tasks.host.process.membership import Exceptions, Member, Members, find_excused, find_excused_families
from tasks.host.process.process import Process, descendants, family, pids_of
from tasks.host.process.table import untouchable
from tasks.host.workload import describe

if TYPE_CHECKING:
    from pathlib import Path

    from blocks.workload_fields import WorkloadFields
    from tasks.host.host import Host
    from tasks.host.process.matcher import WorkloadDescription
    from tasks.runtime.context import RunContext

Snapshot = Mapping[int, Process]


class Membership:
    """Tell from a look at the host which processes belong to an incident's workload, and which are never touched."""

    def __init__(self, context: "RunContext") -> None:
        """Describe the workload. Looks at nothing yet."""
        self.host, self.workload, self.state = context.adapters.host, context.workload, context.state
        self.description, self._files = description_of(context.workload), context.cordon_files

    def members(self, snapshot: Snapshot, groups: Iterable[str] | None = None) -> dict[Identity, Member]:
        """Return every live process of the workload, parents first, and all in the control groups that hold it.

        `groups` are by default those of the incident's journal. What `bystanders` excuse is not the workload there
        either. What a person said is to be ended belongs to it, with its descendants.
        """
        exceptions = self.exceptions(snapshot)
        found = Members.of(snapshot, self.description, exceptions)
        spared = exceptions.ours | found.excused_pids
        tops = self.held_groups() if groups is None else groups
        rest = inside(snapshot, tops).difference(spared, (identity.pid for identity in found))
        return found | {snapshot[pid].identity: Member("helper", "in the workload's control group") for pid in rest}

    def exceptions(self, snapshot: Snapshot) -> Exceptions:
        """Return what keeps us alive, our guards, what our own recovery has started, and what people answered."""
        answers = [(each.identity, each.decision) for each in self.state.answers.read()]
        excused, ended = answered_processes(answers, "bystander"), answered_processes(answers, "end")
        return Exceptions(self.protected_pids(snapshot), excused=excused, ended=ended)

    def excused_pids(self, snapshot: Snapshot) -> frozenset[int]:
        """Return pids that the block's `bystanders` or a person's answer excuse."""
        return find_excused(snapshot, self.description, self.exceptions(snapshot))

    def bystander_pids(self, snapshot: Snapshot) -> frozenset[int]:
        """Return the excused pids with all that they have started."""
        return find_excused_families(snapshot, self.description, self.exceptions(snapshot))

    def spared_pids(self, snapshot: Snapshot) -> frozenset[int]:
        """Return pids that are excused, or never touched."""
        exceptions = self.exceptions(snapshot)
        return exceptions.ours | find_excused(snapshot, self.description, exceptions)

    def protected_pids(self, snapshot: Snapshot) -> frozenset[int]:
        """Return pids that are never touched."""
        return frozenset(self.own_pids(snapshot) | untouchable(snapshot))

    def own_pids(self, snapshot: Snapshot) -> set[int]:
        """Return pids of our guards, and of the API that our own recovery started, with its descendants."""
        guards = {self.guard, self.host.guard(self._files.standing)}
        return family(snapshot, self.state.recovered.read()) | pids_of(snapshot, guards)

    @property
    def guard(self) -> Identity | None:
        """The standing guard of this incident's cordon."""
        return guard_of(self.host, self._files.marker)

    def held_groups(self) -> list[str]:
        """Return the control groups that this incident has frozen."""
        return [row.group for row in self.state.groups.read() if not row.identity]


def description_of(workload: "WorkloadFields") -> "WorkloadDescription":
    """Return what tells the processes of a block's workload."""
    return describe(dict(workload))


def inside(snapshot: Snapshot, groups: Iterable[str]) -> set[int]:
    """Return pids of the processes in these control groups or below."""
    tops = tuple(groups)
    living = (process for process in snapshot.values() if tops and process.alive and not process.container)
    return {each.pid for each in living if any(within(path_of(each.cgroup), top) for top in tops)}


def excluded_pids(snapshot: Snapshot) -> set[int]:
    """Return pids that are never touched, and our own collectors, which may work in the workload's root."""
    return untouchable(snapshot) | descendants(snapshot, [getpid()])


def guard_of(host: "Host", marker: "Path") -> Identity | None:
    """Return the standing guard: by its marker, else the one that this run has just started.

    Asks the host, not the cordon's result, because a failed recovery starts another guard.
    """
    return host.guard(marker) or host.started_guard
