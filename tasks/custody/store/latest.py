"""Plan a transaction of latest/: what is added, replaced, kept or deleted, and why not (runbook §5). It is numbered.

Whoever creates the number has the turn, so two at once are impossible; a turn that was begun and never done is
carried on by the next one (runbook §5).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter

from tasks.custody.containment.receipt import ObjectReceipt, unproven
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import SNAPSHOT_FOLDERS, begun_key, done_key, in_snapshot, kept_key, latest_name
from tasks.custody.evidence.parts import Parts
from tasks.custody.step_result import StepResult
from tasks.custody.store.rows import read_rows, spelled

LatestPolicy: TypeAlias = Literal["never", "guarded", "mirror"]

AT_WORK: Final = timedelta(minutes=10)
"""How long whoever has a turn may change latest/."""
GIVEN_UP: Final = timedelta(minutes=15)
"""After so long others may carry it on: the clocks of two hosts may differ by what lies between."""


class Act(StrEnum):
    """What a turn does with one file of latest/."""

    ADD = "add"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"
    WOULD_DELETE = "would delete"


CHANGES: Final = (Act.ADD, Act.REPLACE, Act.DELETE)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A content of latest/, and the key below incidents/, snapshots/ or promotions/ that holds the same for good."""

    sha256: str
    size: int
    key: str = ""
    parts: Parts | None = None


Latest: TypeAlias = Mapping[str, ObjectRef]


@dataclass(frozen=True, slots=True)
class Row:
    """One file of latest/ before and after a turn; None where there is none."""

    key: str
    act: Act
    before: ObjectRef | None
    after: ObjectRef | None


@dataclass(frozen=True)
class LatestTransaction:
    """A change of latest/ as a whole, the files that stay as they are included.

    `incident` is whose files it brings; for a rollback it is empty, and `undoes` is the turn before which latest/ is
    brought back. `newest` is the latest incident that has promoted so far; `lowered` is what it was before a turn that
    lowered it. `carries_on` is a turn that was never done.
    """

    number: int
    incident: str
    policy: LatestPolicy
    by: str
    begun_at: datetime
    rows: tuple[Row, ...]
    newest: str = ""
    undoes: int | None = None
    carries_on: int | None = None
    lowered: str = ""

    def to_bytes(self) -> bytes:
        """Its one spelling."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The same piece by piece: all of it is a quarter of a gigabyte of 300,000 files."""
        fields = {name: value for name, value in vars(self).items() if name != "rows"}
        return spelled({**fields, "begun_at": self.begun_at.isoformat()}, "rows", map(_told, self.rows))

    @classmethod
    def from_bytes(cls, data: bytes) -> "LatestTransaction":
        """Read back. ValueError for what is none, or names keys that no turn of ours would."""
        return cls.read([data])

    @classmethod
    def read(cls, pieces: Iterable[bytes]) -> "LatestTransaction":
        """The same piece by piece."""
        fields, rows = read_rows(pieces, "rows", _row)
        turn = replace(_TURN.validate_python({**fields, "rows": ()}), rows=tuple(rows))
        if turn.begun_at.tzinfo is None:
            raise ValueError("its time has a zone")
        return turn

    @property
    def before(self) -> dict[str, ObjectRef]:
        """All of latest/ before it."""
        return {row.key: row.before for row in self.rows if row.before}

    @property
    def after(self) -> dict[str, ObjectRef]:
        """All of latest/ after it."""
        return {row.key: row.after for row in self.rows if row.after}

    @property
    def summary(self) -> str:
        """How many files of each act."""
        counts = Counter(row.act for row in self.rows)
        return ", ".join(f"{counts[act]} {act}" for act in Act if counts[act]) or "no file"


_TURN: Final = TypeAdapter(LatestTransaction)
_ROW: Final = TypeAdapter(Row)


def _told(row: Row) -> dict[str, Any]:
    return {"key": row.key, "act": row.act, "before": _held(row.before), "after": _held(row.after)}


def _held(held: ObjectRef | None) -> dict[str, Any] | None:
    if held is None:
        return None
    parts = held.parts and {"size": held.parts.size, "total": held.parts.total, "digests": held.parts.digests}
    return {"sha256": held.sha256, "size": held.size, "key": held.key, "parts": parts}


def _row(said: bytes) -> Row:
    """Read back; what did not change is kept once."""
    row = _ROW.validate_json(said)
    if not latest_name(row.key):
        raise ValueError("its rows lie in latest/")
    held = [each.key for each in (row.before, row.after) if each and each.key]
    if not all(key.startswith(("incidents/", "snapshots/", "promotions/")) for key in held):
        raise ValueError("what it names as held lies below incidents/, snapshots/ or promotions/")
    return replace(row, after=row.before) if row.after == row.before else row


def plan(
    number: int,
    present: Latest,
    wanted: Latest,
    *,
    surplus: Collection[str] = (),
    remove: Collection[str] = (),
) -> tuple[Row, ...]:
    """What the turn of that number does, file by file.

    `remove` may be deleted where somebody is known to hold the same, `surplus` is what a mirror would delete.
    Laws: what is wanted is there afterwards; what is replaced or deleted is held somewhere; planned again it is
    nothing but keeping; the `before` of all rows is what was present.
    """
    surplus, remove = frozenset(surplus), frozenset(remove)

    def row(key: str) -> Row:
        before, after = present.get(key), wanted.get(key)
        if before is None:
            return Row(key, Act.ADD, None, after)
        if after is None:
            gone = key in remove and before.key
            left = Act.WOULD_DELETE if key in surplus | remove else Act.KEEP
            return Row(key, Act.DELETE if gone else left, before, None if gone else before)
        if before.sha256 == after.sha256:
            known = before if before.key else after
            return Row(key, Act.KEEP, known, known)
        return Row(
            key, Act.REPLACE, before if before.key else replace(before, key=kept_key(number, latest_name(key))), after
        )

    return tuple(row(key) for key in sorted({*present, *wanted}))


def surplus_of(
    present: Latest, wanted: Latest, spared: Collection[str], unsure: Collection[str] = ()
) -> frozenset[str]:
    """What a mirror deletes: files that the workload no longer has, in folders of which it has any.

    A folder that is missing wipes nothing, nor does one that was not seen whole (`unsure`), and what the workload has
    but may not promote (`spared`) keeps its last good state.
    """
    folders = {_folder(key) for key in wanted} - {*unsure}
    return frozenset(
        key
        for key in present
        if key not in wanted and key not in spared and in_snapshot(latest_name(key)) and _folder(key) in folders
    )


def unsure_of(attempts: Collection[Evidence]) -> frozenset[str]:
    """Folders of which something was lost, or that were not collected: what is not in them may yet be there."""
    lost = {part for item in attempts for loss in item.losses for part in loss.source.split("/")}
    bare = {item.collector for item in attempts if not item.outcome.is_complete}
    return frozenset(SNAPSHOT_FOLDERS) & (lost | bare)


def _folder(key: str) -> str:
    return latest_name(key).partition("/")[0]


def pending(turn: LatestTransaction) -> tuple[dict[str, ObjectRef], frozenset[str]]:
    """What is left to do of a turn that was never done: what was to come, and what was to go."""
    coming = {row.key: row.after for row in turn.rows if row.act in {Act.ADD, Act.REPLACE} and row.after}
    return coming, frozenset(row.key for row in turn.rows if row.act is Act.DELETE)


def why_not_now(last: LatestTransaction, incident: str, now: datetime) -> str:
    """Why a turn that was begun and is not done may not be carried on yet; empty if it may.

    An incident's earlier run is known to be dead: only one at a time has the workload.
    """
    if (incident and last.incident == incident) or now - last.begun_at > GIVEN_UP:
        return ""
    who = last.incident or (f"lowering {last.lowered}" if last.lowered else f"a rollback before turn {last.undoes}")
    return f"turn {last.number} ({who}, by {last.by}) is under way since {last.begun_at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class TurnProof:
    """Digests of a turn's two documents, and by key of what it kept of latest/ because nobody else had it."""

    number: int
    begun: str
    done: str
    kept: dict[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """All of them by key."""
        return {begun_key(self.number): self.begun, done_key(self.number): self.done, **self.kept}


@dataclass(frozen=True, repr=False)
class Promotion(StepResult):
    """What came of latest/: receipts of the files that are this incident's now, and the turn that brought them.

    `reason` says why it was left as it is, or what was held back. `again` is True where another try may do better.
    """

    objects: tuple[ObjectReceipt, ...] = ()
    turn: TurnProof | None = None
    counts: str = ""
    reason: str = ""
    again: bool = False

    @property
    def is_complete(self) -> bool:
        """True if there is nothing left to do."""
        return not self.again and not unproven(self.objects)

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.turn is None:
            return self.reason
        bad = unproven(self.objects)
        words = f"turn {self.turn.number}: {self.counts}"
        words += f"; {len(bad)} not: {bad[0].key}: {bad[0].reason}" if bad else ""
        return f"{words}; {self.reason}" if self.reason else words


def kept_by(number: int, rows: Iterable[Row]) -> dict[str, str]:
    """Copies that a turn itself has made of what it replaced, digest by key."""
    befores = ((row.key, row.before) for row in rows if row.act is Act.REPLACE and row.before)
    return {held.key: held.sha256 for key, held in befores if held.key == kept_key(number, latest_name(key))}
