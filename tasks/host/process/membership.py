"""Decide which processes belong to the workload, and which are excused (runbook §2, §3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Self

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import RUNS_FROM, Place
from tasks.host.process.known_programs import interactive, keeps_others, quotes, runs_code
from tasks.host.process.matcher import Matcher, WorkloadDescription
from tasks.host.process.process import Process, ancestry, descendants, family, parents_first
from tasks.host.process.service import sitting_with

SERVICE: Final = "service"
"""The role of processes that belong to the workload only by their systemd service."""
SESSION: Final = "session"
"""The role of those that belong to it only because a member leads their session, and their parent is gone."""
NEWCOMER: Final = "newcomer"
"""The role of those that match no pattern, and run something of the root's since the cordon."""
ANSWERED: Final = "answered"
"""The role of those that a person has called the workload's."""


@dataclass(frozen=True)
class Member:
    """A process of the workload: its role, and the reason."""

    role: str
    why: str


@dataclass(frozen=True)
class Exceptions:
    """Processes that are no members whatever they look like, and those that a person has decided on.

    `ours` are pids that are never touched: this run, its guard and workers, what keeps us alive. `helpers` are those
    that a run of ours has started: members by the patterns alone. A person has called the `excused` bystanders, and the
    `ended` the workload's, for this incident.
    """

    ours: frozenset[int] = frozenset()
    helpers: frozenset[int] = frozenset()
    excused: frozenset[Identity] = frozenset()
    ended: frozenset[Identity] = frozenset()


class Members(dict[Identity, Member]):
    """Every process of the workload, parents before children, with its role and the reason.

    `excused_pids` are those of the same look that `find_excused` returns.
    """

    excused_pids = frozenset[int]()

    @classmethod
    def of(
        cls,
        snapshot: Mapping[int, Process],
        description: WorkloadDescription,
        exceptions: Exceptions,
        since: int | None = None,
    ) -> Self:
        """Find them in a snapshot whose processes were looked at beside the root.

        A matching program that only quotes the pattern (a shell, an editor) counts if it is the ancestor of another
        match; one that holds a file of the root open for writing does not only quote it. Descendants of a match belong
        to it whatever their command line, and so do processes in a service of the workload, and orphans in a session
        that a member leads. Who is excused does not, nor descendants connected to the workload only through one of
        them. Processes in containers are left out: they are frozen and stopped through their container. With `since`,
        in clock ticks since boot, whatever was started later and runs something of the root's, or names it and matches,
        belongs too: nothing new may run under a cordon.
        """
        excused_pids = find_excused(snapshot, description, exceptions)
        untouchable = exceptions.ours | excused_pids
        below = snapshot
        if excused_pids:
            below = {pid: process for pid, process in snapshot.items() if pid not in excused_pids}
        found: dict[int, Member] = {}
        for matcher in description.matchers:
            family = _family(below, matcher, untouchable)
            _add(found, below, dict.fromkeys(family, f"matches the {matcher.role} pattern"), matcher.role)
        answered = [pid for pid, each in below.items() if each.identity in exceptions.ended] if exceptions.ended else []
        _add(found, below, dict.fromkeys(answered, "a person answered that it is to be ended"), ANSWERED)
        known, ours = found.keys() - untouchable, exceptions.ours
        served = sitting_with(below, known, description.units, lambda each: each.pid in ours or keeps_others(each))
        _add(found, below, served, SERVICE)
        _add(found, below, _orphans(below, found), SESSION)
        if since is not None:
            _add(found, below, _newcomers(below, description, exceptions, since), NEWCOMER)
        members = cls(
            (snapshot[pid].identity, found[pid])
            for pid in parents_first(snapshot, found)
            if snapshot[pid].alive and pid not in untouchable and not snapshot[pid].container
        )
        members.excused_pids = excused_pids
        return members


def _add(found: dict[int, Member], snapshot: Mapping[int, Process], reasons: Mapping[int, str], role: str) -> None:
    """Add these processes and all that descend from them."""
    for pid in parents_first(snapshot, reasons.keys() | descendants(snapshot, reasons)):
        found.setdefault(pid, Member(role, reasons.get(pid, f"child of {snapshot[pid].parent}")))


def _orphans(snapshot: Mapping[int, Process], found: Mapping[int, Member]) -> dict[int, str]:
    """Return orphans whose session a member leads: what a training has started outlives its parent."""
    leaders = {pid for pid in found if snapshot[pid].session == pid and snapshot[pid].alive}

    def is_orphan(process: Process) -> bool:
        parent = snapshot.get(process.parent)
        return parent is None or parent.session != process.session

    return {
        process.pid: f"its parent is gone, and process {process.session} leads its session"
        for process in snapshot.values()
        if process.session in leaders and process.pid not in found and is_orphan(process)
    }


def _newcomers(
    snapshot: Mapping[int, Process], description: WorkloadDescription, exceptions: Exceptions, since: int
) -> dict[int, str]:
    """Return what was started since and runs something of the root's, or matches and names the root."""
    found = {}
    for process in snapshot.values():
        near = process.is_rooted or description.root in process.line
        if not near or process.identity.start < since or process.pid in exceptions.helpers:
            continue
        if place := runs_from_root(process):
            found[process.pid] = f"{place} lies below the root"
        elif description.root in process.line and description.fits(process) and not only_quotes(process):
            found[process.pid] = "it matches, and names the root"
    return found


def find_unanswered(
    snapshot: Mapping[int, Process], members: Mapping[Identity, Member], exceptions: Exceptions, since: int
) -> list[Process]:
    """Return what was started in the root since and is neither a member, ours, nor a program that may quote a pattern.

    The check judges those that live then; who was there in between is only written down.
    """
    spared = exceptions.ours | exceptions.helpers
    return [
        process
        for process in snapshot.values()
        if process.is_rooted and process.identity.start >= since and process.identity not in members
        if process.pid not in spared and process.alive and not process.container and not quotes(process)
    ]


def find_excused(
    snapshot: Mapping[int, Process], description: WorkloadDescription, exceptions: Exceptions
) -> frozenset[int]:
    """Return pids that `bystanders` or a person's answer excuses: reported, never signalled, and no contradiction.

    A process that the workload's own patterns recognise in its root, or of which that is not known, is not excused: the
    contained processes could choose such a command line, or an excused one start the workload. An answer excuses what
    descends from the process too.
    """
    if not description.bystanders and not exceptions.excused:
        return frozenset()
    others = {pid: process for pid, process in snapshot.items() if _may_be_excused(process, description)}
    named = {pid for pid, process in others.items() if description.excuses(process)}
    return frozenset(named | family(others, exceptions.excused))


def find_excused_families(
    snapshot: Mapping[int, Process], description: WorkloadDescription, exceptions: Exceptions
) -> frozenset[int]:
    """Return the excused pids with all that they have started, down to what may be the workload's or runs its code."""
    excused_pids = find_excused(snapshot, description, exceptions)
    others = {
        pid: process
        for pid in descendants(snapshot, excused_pids)
        if _may_be_excused(process := snapshot[pid], description) and not runs_from_root(process)
        if not PurePath(process.executable).is_relative_to(description.root)
    }
    return excused_pids | descendants(others, excused_pids)


def _may_be_excused(process: Process, description: WorkloadDescription) -> bool:
    fits = description.fits(process)
    return not (fits and (process.placeless or process.places is None or process.is_rooted))


def _family(snapshot: Mapping[int, Process], matcher: Matcher, untouchable: frozenset[int]) -> set[int]:
    """Return the processes that match by themselves."""
    matched = {
        process.pid: process
        for process in snapshot.values()
        if process.alive and process.pid not in untouchable and not process.container and matcher.recognises(process)
    }
    plain = {pid for pid, process in matched.items() if not only_quotes(process)}
    carriers = matched.keys() - plain - {pid for pid, process in matched.items() if interactive(process)}
    return plain | (carriers & ancestry(snapshot, plain))


def only_quotes(process: Process) -> bool:
    """Return whether it is a program of the host that may carry a pattern as text, and runs or writes nothing there."""
    own = {Place.PROGRAM, Place.CALLED, Place.OUTPUT}
    if not quotes(process) or (process.places and not process.places.isdisjoint(own)):
        return False
    return not (runs_code(process) and process.places and Place.SCRIPT in process.places)


def runs_from_root(process: Process) -> str:
    """Return what of the root's a process runs; empty if nothing, or if it only reads a file of the root's."""
    code = sorted((process.places or frozenset()) & RUNS_FROM)
    if quotes(process) and not runs_code(process):
        code = [place for place in code if place is not Place.SCRIPT]
    return code[0] if code else ""
