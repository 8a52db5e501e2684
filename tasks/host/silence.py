"""Decide which changes below the root contradict that everything of the workload was stopped (runbook §3)."""

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.custody.containment.identity import Identity
from tasks.custody.visible import visible
from tasks.host.process.handles import FileId
from tasks.host.process.process import Masks, Process, process_line

SETTLE_SECONDS: Final = 1.0
"""How long what waited for the workload may write its last words, if it then ends."""
_NAMED: Final = 3
_SHOWN: Final = 80


@dataclass(frozen=True)
class Change:
    """A file below the root that was changed, by its path there, and when it was changed last.

    `pid` is 0 if it is not known who did. `lineage` is the process with its ancestors, as they were at that moment; it
    is empty if the process was gone by then. `source` says what lives and has started a process that has ended.
    `inode` is the file's device and inode, of a difference. `is_touch` says that all that is known to have changed are
    times or other attributes, `how` by what else than an event the process is known, or how a person finds it. `ended`
    says that the process is known to have ended since.
    """

    file: str
    at: datetime
    pid: int = 0
    lineage: tuple[Process, ...] = ()
    source: str = ""
    inode: FileId | None = None
    is_touch: bool = False
    how: str = ""
    ended: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the change in a witness's row."""
        lineage = _place_unread(map(_process, row.get("lineage", ())))
        inode = tuple(row["inode"]) if row.get("inode") else None
        change = cls(row["file"], datetime.fromisoformat(row["at"]), row["pid"], lineage)
        return replace(change, inode=inode, is_touch=row.get("is_touch", False))

    @property
    def writer(self) -> str:
        """The command line of the process, as it is shown; empty if it was gone by then."""
        return show(self.lineage[0]) if self.lineage else ""

    def __str__(self) -> str:
        """Return file, time and process in one line."""
        return self.describe()

    def describe(self, more: str = "") -> str:
        """Return file, time, process, `more` words on the change, how that is known, and what started the process."""
        writer = f"process {self.pid}" if self.pid else "a process that is not known"
        writer += f" ({self.writer})" if self.writer else ""
        writer += ", which has ended 終了済み" if self.ended else ""
        sure = "as far as is known by" if self.pid and self.how else "by"
        line = f"{self.file} was changed at {self.at:%H:%M:%S}Z {sure} {writer}{more}"
        return "; ".join(filter(None, (line, self.how, self.source)))


def show(process: Process) -> str:
    """Return the command line of a process that writes, or its name if it has none, in a few words."""
    return process_line(process, _SHOWN) or visible(process.name, _SHOWN)


def first_of_each_source(changes: Collection[Change]) -> list[Change]:
    """Return the changes, of those by children of one source that lives the first alone.

    Who was gone before it could be looked up is left out where such a source has changed the same file.
    """
    first, known = dict[str | Change, Change](), {each.file for each in changes if each.source}
    for each in (each for each in changes if each.lineage or not each.pid or each.file not in known):
        first.setdefault(each.source or each, each)
    return [*first.values()]


def _process(row: Mapping[str, Any]) -> Process:
    parts = {"identity": Identity(**row["identity"]), "masks": Masks(**row["masks"]), "command": tuple(row["command"])}
    return Process(**{**row, **parts, "ports": frozenset(row["ports"])})


def _place_unread(lineage: Iterable[Process]) -> tuple[Process, ...]:
    """Return a lineage, each process that ended before its control group was read in that of its parent."""
    placed = list[Process]()
    for each in reversed([*lineage]):
        where = each if each.cgroup or not placed else placed[-1]
        placed.append(replace(each, cgroup=where.cgroup, container=where.container))
    return tuple(reversed(placed))


@dataclass(frozen=True)
class Heard:
    """What the witnesses know since `armed`: `events` by process, and files that differ between two listings.

    `touches` are changes of times and other attributes alone, which count for nothing and explain a difference.
    `earlier` are changes before, or in an earlier listening, which count for nothing and tell who else writes a file.
    `killed` is when we killed each process that had come back, by pid. For `settle_seconds` what waited for what was
    stopped may have written its last words, if it was `there` (pids) when that was stopped, or was started by one that
    was: 0 if this run has stopped nothing. `deaf` says why not all events are known, `blind` why not all was compared;
    empty if that is not so.
    """

    armed: datetime
    events: tuple[Change, ...] = ()
    differences: tuple[Change, ...] = ()
    deaf: str = ""
    blind: str = ""
    touches: tuple[Change, ...] = ()
    earlier: tuple[Change, ...] = ()
    killed: Mapping[int, datetime] = field(default_factory=dict)
    settle_seconds: float = SETTLE_SECONDS
    there: frozenset[int] = frozenset()

    @property
    def settles(self) -> datetime:
        """Until when last words are written."""
        return self.armed + timedelta(seconds=self.settle_seconds)

    def since(self, at: datetime) -> Self:
        """Return the same, armed at that time unless it was before."""
        return replace(self, armed=min(self.armed, at))

    def and_then(self, events: tuple[Change, ...], differences: tuple[Change, ...], deaf: str, blind: str) -> Self:
        """Return the same with what was heard later."""
        events, differences = (*self.events, *events), (*self.differences, *differences)
        return replace(self, events=events, differences=differences, deaf=deaf, blind=blind)


@dataclass(frozen=True)
class Silence:
    """The judgement: changes that contradict it, those that do not, and what is not known.

    `settled` are by processes that have ended since, `by_bystanders` by bystanders and what these have started.
    """

    broken: tuple[Change, ...] = ()
    settled: tuple[Change, ...] = ()
    deaf: str = ""
    blind: str = ""
    by_bystanders: tuple[Change, ...] = ()

    @property
    def contradictions(self) -> tuple[str, ...]:
        """The first changes, one of each source, how many more, and that nothing is known if both witnesses failed."""
        known = sorted(first_of_each_source(self.broken), key=lambda change: not change.lineage)[:_NAMED]
        found = [change.describe(", after everything was stopped") for change in known]
        if (more := len(self.broken) - len(known)) > 0:
            found.append(f"{more} more changes after everything was stopped")
        if self.deaf and self.blind:
            found.append(f"whether anything still writes is not known: {self.deaf}; {self.blind}")
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What weakens the judgement without contradicting it."""
        first = ", ".join(map(str, self.settled[:1]))
        settled = f"{len(self.settled)} changes by what has ended since 終了済み: {first}"
        first = ", ".join(map(str, self.by_bystanders[:1]))
        excused = f"{len(self.by_bystanders)} changes by bystanders, or by what these start 除外対象の書込み: {first}"
        deaf = f"who writes is not known, files were compared by size and time 書込元は確認不可: {self.deaf}"
        blind = f"files could not be compared by size and time 比較不可: {self.blind}"
        found = {settled: bool(self.settled), excused: bool(self.by_bystanders)}
        found |= {deaf: bool(self.deaf and not self.blind), blind: bool(self.blind and not self.deaf)}
        return tuple(note for note, holds in found.items() if holds)


def judge_silence(
    heard: Heard,
    is_excused: Callable[[Change], bool],
    ended: Collection[Identity],
    is_at_work: Callable[[Identity], bool],
    is_bystanders: Callable[[Change], bool] = lambda _: False,
) -> Silence:
    """Judge each change by who made it; a difference that an event explains by the event.

    `ended` are processes of the workload whose end, or freeze, is on record. What they wrote before it, and the last
    words of what waited for them, contradict nothing, unless they are at work: what was started since waited for
    nothing, but for the child of one that did, and has ended too. Who was gone before it could be looked
    up counts as a bystander's child where all known authors of the file are excused, and one is a bystander or its
    child. The kernel closes a process's files as it ends, so a change of that moment is by what was killed.
    """
    explained = {change.file for change in heard.events}
    there = heard.there | {each.pid for each in ended}
    broken, settled, by_bystanders = list[Change](), list[Change](), list[Change]()

    def is_attributed(file: str) -> bool:
        authors = [each for each in (*heard.earlier, *heard.events) if each.lineage and each.file == file]
        own = [*map(is_bystanders, authors)]
        return any(own) and all(known or is_excused(each) for known, each in zip(own, authors, strict=True))

    def is_its_end(change: Change) -> bool:
        at = None if change.lineage else heard.killed.get(change.pid)
        return at is not None and abs(change.at - at) <= timedelta(seconds=SETTLE_SECONDS)

    def is_last_word(change: Change) -> bool:
        waited = change.pid in there or any(
            each.pid in there and not is_at_work(each.identity) for each in change.lineage
        )
        return waited and change.at <= heard.settles

    for change in (*heard.events, *(each for each in heard.differences if not is_below(each.file, explained))):
        identities = [each.identity for each in change.lineage]
        if change.lineage and is_bystanders(change):
            by_bystanders.append(change)
            continue
        if change.lineage and is_excused(change):
            continue
        ends = any(identity in ended for identity in identities) or is_last_word(change) or is_its_end(change)
        if ends and not any(map(is_at_work, identities[:1])):
            settled.append(change)
        elif change.pid and not change.lineage and is_attributed(change.file):
            by_bystanders.append(change)
        else:
            broken.append(change)
    return Silence(tuple(broken), tuple(settled), heard.deaf, heard.blind, tuple(by_bystanders))


def is_below(file: str, folders: AbstractSet[str]) -> bool:
    """Return whether a path is one of these, or below one."""
    return file in folders or not folders.isdisjoint(map(str, PurePath(file).parents))
