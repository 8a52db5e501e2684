"""Decide which processes belong to the workload, which only resemble it, and which are protected (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.custody.containment.process import Identity, Process, ancestry, descendants, parents_first
from tasks.custody.containment.program import interactive, keeps_others, quotes, runs_prefect
from tasks.custody.containment.service import sitting_with

_OUR_PROGRAMS: Final = frozenset({"flows.worker", "flows.engine", "flows.cli", "flows.deadline"})
"""By the module that is run."""
_OUR_SCRIPT: Final = "evacuation"
SERVICE: Final = "service"
"""The role of processes that belong to the workload only by their systemd service."""


@dataclass(frozen=True)
class Matcher:
    """Recognises one part of the workload: its role, and a regular expression on the full command line.

    If `user` or `port` is given, the process must also be that user's, or listen on that port.
    """

    role: str
    pattern: str
    user: int | None = None
    port: int | None = None

    def fits(self, process: Process) -> bool:
        """Return whether command line, user and port match. Never sufficient alone: see `recognises`."""
        return (
            self.names(process)
            and self.user in {None, process.user}
            and (self.port is None or self.port in process.ports or process.placeless)
        )

    def names(self, process: Process) -> bool:
        """Return whether the command line matches, without regard to user and port."""
        return bool(re.search(self.pattern, process.line))

    def recognises(self, process: Process, root: PurePath) -> bool:
        """Return whether the process fits, and works in or runs from the workload's root."""
        return rooted(process, root) and self.fits(process)


def matchers_of(fields: Mapping[str, Any], user: int | None) -> tuple[Matcher, ...]:
    """Return the matchers of a workload block's fields; `user` is the uid of the account that it names."""
    return (
        Matcher("api", fields["api_pattern"], user, fields["api_port"]),
        Matcher("training", fields["training_pattern"], user),
        Matcher("worker", fields["worker_pattern"], user),
    )


@dataclass(frozen=True)
class Named:
    """Processes that a workload block names beside its patterns: its services, and unrelated command lines."""

    units: tuple[str, ...] = ()
    bystanders: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return those of a block's fields."""
        return cls(tuple(fields["units"]), tuple(fields["bystanders"]))


NOTHING_NAMED: Final = Named()


@dataclass(frozen=True)
class Member:
    """A process of the workload: its role, and the reason."""

    role: str
    why: str


def rooted(process: Process, root: PurePath) -> bool:
    """Return whether the working directory or executable is below the root.

    The executable of a virtual environment is a link to one outside, so the path it was called by counts too.
    """
    places, name = (process.cwd, process.executable, *process.command[:1]), root.name
    return any(name in place and PurePath(place).is_relative_to(root) for place in places if place)  # paths are slow


def protected(snapshot: Mapping[int, Process], me: int, servers: Iterable[int] = ()) -> set[int]:
    """Return the pids never touched: pid 1, ourselves, our ancestors, and the worker and Prefect of our installation.

    Of other installations only `servers`, the Prefect servers that we use, are protected: any program can name itself
    Prefect. Our descendants are not: a workload that our ancestor started may be among them.
    """
    protected_pids = {1, me} | ancestry(snapshot, [me])
    protected_pids |= {
        process.pid for process in snapshot.values() if runs_ours(process) and _ours(process, snapshot.get(me))
    }
    return protected_pids | set(servers)


def runs_ours(process: Process) -> bool:
    """Return whether a process is called as our programs or Prefect's are. It may still be the workload."""
    script = PurePath(*process.command[1:2]).name
    return runs_prefect(process) or script == _OUR_SCRIPT or not _OUR_PROGRAMS.isdisjoint(process.command[1:4])


def _ours(process: Process, me: Process | None) -> bool:
    """Return whether a program runs in our Python environment: same executable, called by the same path."""
    return me is None or (process.executable == me.executable and _called(process) == _called(me) != "")


def _called(process: Process) -> str:
    """Return the absolute path an interpreter was called by, which decides its packages; empty if it is no path."""
    word = next(iter(process.command), "")
    return str(PurePath(process.cwd, word)) if "/" in word else ""


def members(
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    protected_pids: Iterable[int],
    named: Named = NOTHING_NAMED,
) -> dict[Identity, Member]:
    """Return every process of the workload, parents before children.

    A matching program that only quotes the pattern (a shell, an editor) counts if it is the ancestor of another match.
    Descendants of a match belong to it whatever their command line, and so do processes in a service of the workload.
    The block's `bystanders` do not, nor descendants connected to the workload only through one of them. Processes in
    containers are left out: they are frozen and stopped through their container.
    """
    known, protected_now = tuple(matchers), frozenset(protected_pids)
    excused_pids = excused(snapshot, known, root, named)
    untouchable = protected_now | excused_pids
    below = {pid: process for pid, process in snapshot.items() if pid not in excused_pids} if excused_pids else snapshot
    found: dict[int, Member] = {}
    for matcher in known:
        family = _family(below, matcher, root, untouchable)
        for pid in parents_first(below, family | descendants(below, family)):
            why = f"matches the {matcher.role} pattern" if pid in family else f"child of {snapshot[pid].parent}"
            found.setdefault(pid, Member(matcher.role, why))
    served = sitting_with(
        below, found.keys() - untouchable, named.units, lambda each: each.pid in protected_now or keeps_others(each)
    )
    for pid in parents_first(below, served.keys() | descendants(below, served)):
        found.setdefault(pid, Member(SERVICE, served.get(pid, f"child of {snapshot[pid].parent}")))
    return {
        snapshot[pid].identity: found[pid]
        for pid in parents_first(snapshot, found)
        if snapshot[pid].alive and pid not in untouchable and not snapshot[pid].container
    }


def excused(
    snapshot: Mapping[int, Process], matchers: Iterable[Matcher], root: PurePath, named: Named
) -> frozenset[int]:
    """Return the pids that the block's `bystanders` name: reported, never signalled, and no contradiction.

    A process that matches the workload's own patterns in its root, or whose root is not readable, is not excused: the
    contained processes could choose such a command line.
    """
    if not named.bystanders:
        return frozenset()
    known = tuple(matchers)
    return frozenset(
        process.pid
        for process in snapshot.values()
        if any(re.search(pattern, process.line) for pattern in named.bystanders)
        and not any(each.recognises(process, root) or (process.placeless and each.fits(process)) for each in known)
    )


def _family(
    snapshot: Mapping[int, Process], matcher: Matcher, root: PurePath, protected_pids: frozenset[int]
) -> set[int]:
    """Return the processes that match by themselves."""
    matched = {
        process.pid: process
        for process in snapshot.values()
        if process.alive
        and process.pid not in protected_pids
        and not process.container
        and matcher.recognises(process, root)
    }
    plain = {pid for pid, process in matched.items() if not only_quotes(process, root)}
    carriers = matched.keys() - plain - {pid for pid, process in matched.items() if interactive(process)}
    return plain | (carriers & ancestry(snapshot, plain))


def only_quotes(process: Process, root: PurePath) -> bool:
    """Return whether it is a shell or editor of the host. Programs below the root are always the workload's."""
    return quotes(process) and not PurePath(process.executable).is_relative_to(root)
