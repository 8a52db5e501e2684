"""Decide which changes below the root contradict that everything of the workload was stopped (runbook §3)."""

from collections.abc import Callable, Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.custody.containment.process import Identity, Masks, Process
from tasks.custody.evidence.redact import command_line

SETTLE_SECONDS: Final = 1.0
"""How long what waited for the workload may write its last words, if it then ends."""
_NAMED: Final = 3
_SHOWN: Final = 80


@dataclass(frozen=True)
class Change:
    """A file below the root that was changed, by its path there, and when it was changed last.

    `pid` is 0 if it is not known who did. `lineage` is the process with its ancestors, as they were at that moment; it
    is empty if the process was gone by then. `mark` is the trial launch that its environment names.
    """

    file: str
    at: datetime
    pid: int = 0
    lineage: tuple[Process, ...] = ()
    mark: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the change in a witness's row."""
        lineage = tuple(map(_process, row.get("lineage", ())))
        return cls(row["file"], datetime.fromisoformat(row["at"]), row["pid"], lineage, row.get("mark") or "")

    @property
    def identities(self) -> list[Identity]:
        """The process and its ancestors."""
        return [each.identity for each in self.lineage]

    def __str__(self) -> str:
        """Return file, time and process in one line."""
        writer = f"process {self.pid}" if self.pid else "a process that is not known"
        first = self.lineage[0] if self.lineage else None
        command = f" ({command_line(first.command or (first.name,), _SHOWN)})" if first else ""
        return f"{self.file} was changed at {self.at:%H:%M:%S}Z by {writer}{command}"


def _process(row: Mapping[str, Any]) -> Process:
    made = {"identity": Identity(**row["identity"]), "masks": Masks(**row["masks"]), "command": tuple(row["command"])}
    return Process(**{**row, **made, "ports": frozenset(row["ports"])})


@dataclass(frozen=True)
class Trial:
    """A launch of ours that tested the cordon: its process, its mark, and when all of it had ended."""

    launched: Identity
    mark: str
    ended: datetime

    def wrote(self, change: Change) -> bool:
        """Return whether the launch made this change; or may have, if the writer was gone at once."""
        if not change.lineage:
            return change.pid > 0 and self.mark <= change.at.isoformat() and change.at <= self.ended
        writer = change.lineage[0]
        return self.launched in change.identities or writer.session == self.launched.pid or change.mark == self.mark


@dataclass(frozen=True)
class Heard:
    """What the witnesses know since `armed`: `events` by process, and files that differ between two listings.

    `deaf` says why not all events are known, `blind` why nothing was compared; empty if that is not so. `stirred` says
    that something of the workload came back, so that a difference may be its.
    """

    armed: datetime
    events: tuple[Change, ...] = ()
    differences: tuple[Change, ...] = ()
    deaf: str = ""
    blind: str = ""
    stirred: bool = False


@dataclass(frozen=True)
class Silence:
    """The judgement: changes that contradict it, those of processes that are ended since, and what is not known."""

    broken: tuple[Change, ...] = ()
    settled: tuple[Change, ...] = ()
    deaf: str = ""
    blind: str = ""

    @property
    def contradictions(self) -> tuple[str, ...]:
        """The first changes, how many more, and that nothing is known if both witnesses failed."""
        told = [f"{change}, after everything was stopped" for change in self.broken[:_NAMED]]
        more = [f"{more} more changes after everything was stopped"] if (more := len(self.broken) - _NAMED) > 0 else []
        blank = f"whether anything still writes is not known: {self.deaf}; {self.blind}; carry the incident on"
        return (*told, *more, *([blank] if self.deaf and self.blind else []))

    @property
    def notes(self) -> tuple[str, ...]:
        """What weakens the judgement without contradicting it."""
        told = []
        if self.settled:
            told.append(
                f"{len(self.settled)} files were changed by what has ended since 停止前後の変更: {self.settled[0]}"
            )
        if self.deaf and not self.blind:
            told.append(
                f"files were compared by size and time alone, as writers were not heard 書込元不明: {self.deaf}"
            )
        if self.blind and not self.deaf:
            told.append(f"files were not compared by size and time 比較不可: {self.blind}")
        return tuple(told)


def judge_silence(
    heard: Heard,
    is_excused: Callable[[Change], bool],
    trials: Sequence[Trial],
    ended: Container[Identity],
    is_at_work: Callable[[Identity], bool],
) -> Silence:
    """Judge each change by who made it. `ended` are processes of the workload whose end or freeze is on record.

    A difference that an event explains is that event's.
    """
    explained = {change.file for change in heard.events}
    unexplained = (each for each in heard.differences if not is_below(each.file, explained))
    broken, settled = list[Change](), list[Change]()
    for change in (*heard.events, *unexplained):
        if any(trial.wrote(change) for trial in trials) or (change.lineage and is_excused(change)):
            continue
        (settled if _is_settled(change, heard, ended, is_at_work) else broken).append(change)
    return Silence(tuple(broken), tuple(settled), heard.deaf, heard.blind)


def _is_settled(
    change: Change, heard: Heard, ended: Container[Identity], is_at_work: Callable[[Identity], bool]
) -> bool:
    """Return whether who made the change is known to be ended or held."""
    if not change.pid:
        return heard.stirred and bool(heard.deaf)
    if change.lineage and is_at_work(change.lineage[0].identity):
        return False
    last_words = change.at <= heard.armed + timedelta(seconds=SETTLE_SECONDS)
    return last_words or any(identity in ended for identity in change.identities)


def is_below(file: str, folders: AbstractSet[str]) -> bool:
    """Return whether a path is one of these, or below one."""
    return file in folders or not folders.isdisjoint(map(str, PurePath(file).parents))
