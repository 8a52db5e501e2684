"""Judge every process of the host after the freeze, each by itself and by those that it is connected with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from tasks.custody.containment.identity import Identity
from tasks.host.judgement.case import Case, Judgement, Kind, Look
from tasks.host.judgement.harmless import is_text
from tasks.host.judgement.judge_process import judge_process
from tasks.host.process.handles import UNREAD, PipeEnd
from tasks.host.process.known_programs import HARMLESS, program
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.membership import Exceptions, Members
from tasks.host.process.process import Process, ancestry, descendants

_ERROR: Final = 2
"""The descriptor of standard error."""


@dataclass(frozen=True)
class Roster:
    """Every process that is something to the workload, with its judgement, and by what that was judged."""

    snapshot: Mapping[int, Process]
    judgements: Mapping[Identity, Judgement]
    description: WorkloadDescription
    exceptions: Exceptions
    look: Look

    @classmethod
    def judge(
        cls, snapshot: Mapping[int, Process], description: WorkloadDescription, exceptions: Exceptions, look: Look
    ) -> Self:
        """Judge each living process, and then what is connected with one that counts."""
        members = Members.of(snapshot, description, exceptions)
        families = members.excused_pids | descendants(snapshot, members.excused_pids)
        found = {}
        for process in snapshot.values():
            if not process.alive or process.container in (look.containers or ()):
                continue
            handles = look.handles.get(process.identity, UNREAD)
            member = members.get(process.identity)
            case = Case(
                process=process,
                handles=handles,
                description=description,
                look=look,
                ours=process.pid in exceptions.ours,
                member=member.why if member else "",
                excused=process.pid in members.excused_pids,
                in_excused_family=process.pid in families,
                fits=description.fits(process) and not is_text(process, handles),
                has_parent=process.parent > 1 and process.parent in snapshot,
            )
            if judgement := judge_process(case):
                found[process.identity] = judgement
        return cls(snapshot, {**found, **_find_connected(snapshot, found, look)}, description, exceptions, look)

    def would_belong(self, process: Process, description: WorkloadDescription) -> bool:
        """Return whether a process would be a member if the workload were described so."""
        return process.identity in Members.of(self._kin(process), description, self.exceptions)

    def would_be_excused(self, process: Process, description: WorkloadDescription) -> bool:
        """Return whether a process would be held against nothing if the workload were described so."""
        judged = Roster.judge(self._kin(process), description, self.exceptions, self.look)
        found = judged.judgements.get(process.identity)
        return found is None or found.kind in {Kind.EXCUSED, Kind.APART}

    def _kin(self, process: Process) -> dict[int, Process]:
        pids = ancestry(self.snapshot, [process.pid]) | descendants(self.snapshot, [process.pid])
        return {pid: self.snapshot[pid] for pid in pids}

    def _of(self, *kinds: Kind) -> dict[Identity, str]:
        return {identity: each.why for identity, each in self.judgements.items() if each.kind in kinds}

    @property
    def alive(self) -> dict[Identity, str]:
        """What contradicts "nothing of the workload runs", with the reason."""
        return self._of(Kind.MEMBER, Kind.SUSPECT)

    @property
    def suspects(self) -> dict[Identity, str]:
        """What matches no pattern, or not here, with the fact that ties it to the workload."""
        return self._of(Kind.SUSPECT)

    @property
    def unknown(self) -> dict[Identity, str]:
        """What nothing ties to the workload and nothing proves harmless."""
        return self._of(Kind.UNKNOWN)

    def of(self, kind: Kind) -> list[tuple[Process, str]]:
        """Return the processes of a kind with their reasons, by pid."""
        return [(self.snapshot[identity.pid], why) for identity, why in sorted(self._of(kind).items())]

    def processes(self, kind: Kind) -> tuple[Process, ...]:
        """Return the processes of a kind, by pid."""
        return tuple(process for process, _ in self.of(kind))


def _find_connected(
    snapshot: Mapping[int, Process], found: Mapping[Identity, Judgement], look: Look
) -> dict[Identity, Judgement]:
    """Return what is tied only to one that was judged: the other end of its pipe, and what an unknown one has started.

    A `tee` that writes below the root writes for somebody.
    """
    more = dict[Identity, Judgement]()
    rest = [each for each in snapshot.values() if each.alive and each.identity not in found and not each.container]
    for identity in sorted(identity for identity, each in found.items() if each.kind is Kind.SUSPECT):
        suspect = snapshot[identity.pid]
        pipes = look.handles.get(identity, UNREAD).pipes if program(suspect) in HARMLESS else frozenset()
        for each in rest if pipes else ():
            if way := _find_pipe(suspect, pipes, each, look.handles.get(each.identity, UNREAD).pipes):
                why = f"it shares a pipe with process {identity.pid}, which is one: {way}"
                more.setdefault(each.identity, Judgement(Kind.SUSPECT, why))
    unknown = {identity.pid for identity, each in found.items() if each.kind is Kind.UNKNOWN}
    sessions = {snapshot[pid].session for pid in unknown} - {0}
    below = descendants(snapshot, unknown)
    for each in rest:
        orphan = each.session in sessions and each.parent == 1 and each.session != each.pid
        if (each.pid in below or orphan) and (each.strange or program(each) not in HARMLESS):
            why = f"child of {each.parent}" if each.pid in below else "its parent is gone"
            more.setdefault(each.identity, Judgement(Kind.UNKNOWN, f"{why}, in the session of one that is not known"))
    return more


def _find_pipe(suspect: Process, pipes: frozenset[PipeEnd], other: Process, others: frozenset[PipeEnd]) -> str:
    """Return by which descriptors a process writes what a suspect reads, or reads what it writes; empty if by none.

    Descriptors of the same number that neither uses, both have from the shell that launched them.
    """
    both = pipes & others
    for own in sorted(pipes):
        for end in sorted(others):
            is_used = _uses(suspect, own) or _uses(other, end)
            is_handed_down = own in both or end in both
            if own.pipe == end.pipe and (is_used or not is_handed_down):
                if own.reads and end.writes:
                    return f"it may write by descriptor {end.descriptor} what that reads by descriptor {own.descriptor}"
                if own.writes and end.reads:
                    return f"it may read by descriptor {end.descriptor} what that writes by descriptor {own.descriptor}"
    return ""


def _uses(process: Process, end: PipeEnd) -> bool:
    """Return whether an end is a process's standard input, output or error, or one that its command line names."""
    named = re.compile(rf"/(?:dev|proc/self)/fd/{end.descriptor}(?!\d)")
    return end.descriptor <= _ERROR or any(map(named.search, process.command))
