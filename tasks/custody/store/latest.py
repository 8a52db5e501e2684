"""Plan a numbered transaction ("turn") of latest/: what is added, replaced, kept or deleted, and why (runbook §5).

The process that creates the number has the turn, so two cannot run at once. A turn without a commit is resumed by the
next one.
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
"""How long a turn's owner may change latest/."""
GIVEN_UP: Final = timedelta(minutes=15)
"""After this time others may resume the turn; the difference allows for clock skew between hosts."""


class Act(StrEnum):
    """What a transaction does with one file of latest/."""

    ADD = "add"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"
    WOULD_DELETE = "would delete"


CHANGES: Final = (Act.ADD, Act.REPLACE, Act.DELETE)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Content of latest/, and the permanent key below incidents/, snapshots/ or promotions/ that holds it too."""

    sha256: str
    size: int
    key: str = ""
    parts: Parts | None = None


Latest: TypeAlias = Mapping[str, ObjectRef]


@dataclass(frozen=True, slots=True)
class Row:
    """One file of latest/ before and after a transaction; None if it does not exist."""

    key: str
    act: Act
    before: ObjectRef | None
    after: ObjectRef | None


@dataclass(frozen=True)
class LatestTransaction:
    """A change of latest/ as a whole, including unchanged files.

    `incident` is the source of its files. It is empty for a rollback; `undoes` is then the turn whose previous state is
    restored. `newest` is the latest incident that has promoted so far; `lowered` is its previous value, if a turn
    lowered it. `carries_on` is the uncommitted turn that this one resumes.
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
        """Return canonical JSON."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield canonical JSON in pieces: for 300,000 files it has a quarter of a gigabyte."""
        fields = {name: value for name, value in vars(self).items() if name != "rows"}
        return spelled({**fields, "begun_at": self.begun_at.isoformat()}, "rows", map(_told, self.rows))

    @classmethod
    def from_bytes(cls, data: bytes) -> "LatestTransaction":
        """Parse a transaction. Raises ValueError if it is invalid, or names keys outside the store's layout."""
        return cls.read([data])

    @classmethod
    def read(cls, pieces: Iterable[bytes]) -> "LatestTransaction":
        """Parse a transaction from pieces. Raises ValueError as `from_bytes`."""
        fields, rows = read_rows(pieces, "rows", _row)
        turn = replace(_TURN.validate_python({**fields, "rows": ()}), rows=tuple(rows))
        if turn.begun_at.tzinfo is None:
            raise ValueError("its time has a zone")
        return turn

    @property
    def before(self) -> dict[str, ObjectRef]:
        """All of latest/ before the transaction."""
        return {row.key: row.before for row in self.rows if row.before}

    @property
    def after(self) -> dict[str, ObjectRef]:
        """All of latest/ after the transaction."""
        return {row.key: row.after for row in self.rows if row.after}

    @property
    def summary(self) -> str:
        """The number of files for each act."""
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
    """Parse a row. An unchanged content is stored once."""
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
    """Return what the turn of this number does with each file.

    `remove` may be deleted if their content is held elsewhere; `surplus` is what a mirror would delete. Afterwards
    everything wanted is present, and everything replaced or deleted is held elsewhere. Planning again gives only KEEP;
    the `before` of all rows is what was present.
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
    """Return what a mirror deletes: files that the workload no longer has, in folders of which it has any.

    A missing folder deletes nothing, nor does an incompletely collected one (`unsure`). Files that exist but may not be
    promoted (`spared`) keep their last good state.
    """
    folders = {_folder(key) for key in wanted} - {*unsure}
    return frozenset(
        key
        for key in present
        if key not in wanted and key not in spared and in_snapshot(latest_name(key)) and _folder(key) in folders
    )


def unsure_of(attempts: Collection[Evidence]) -> frozenset[str]:
    """Return the folders that were not collected completely: files not found there may still exist."""
    lost = {part for item in attempts for loss in item.losses for part in loss.source.split("/")}
    bare = {item.collector for item in attempts if not item.outcome.is_complete}
    return frozenset(SNAPSHOT_FOLDERS) & (lost | bare)


def _folder(key: str) -> str:
    return latest_name(key).partition("/")[0]


def pending(turn: LatestTransaction) -> tuple[dict[str, ObjectRef], frozenset[str]]:
    """Return what remains of an uncommitted turn: files to write, and keys to delete."""
    coming = {row.key: row.after for row in turn.rows if row.act in {Act.ADD, Act.REPLACE} and row.after}
    return coming, frozenset(row.key for row in turn.rows if row.act is Act.DELETE)


def why_not_now(last: LatestTransaction, incident: str, now: datetime) -> str:
    """Return why an uncommitted turn may not be resumed yet; empty if it may.

    An incident's earlier run is known to be dead: only one run at a time owns the workload.
    """
    if (incident and last.incident == incident) or now - last.begun_at > GIVEN_UP:
        return ""
    who = last.incident or (f"lowering {last.lowered}" if last.lowered else f"a rollback before turn {last.undoes}")
    return f"turn {last.number} ({who}, by {last.by}) is under way since {last.begun_at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class TurnProof:
    """Digests of a turn's two documents, and of the content that it kept from latest/, by key."""

    number: int
    begun: str
    done: str
    kept: dict[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """All digests by key."""
        return {begun_key(self.number): self.begun, done_key(self.number): self.done, **self.kept}


@dataclass(frozen=True, repr=False)
class Promotion(StepResult):
    """The result for latest/: receipts of the files that are now this incident's, and the turn that wrote them.

    `reason` says why latest/ is unchanged, or what was held back. `again` says that a retry may succeed.
    """

    objects: tuple[ObjectReceipt, ...] = ()
    turn: TurnProof | None = None
    counts: str = ""
    reason: str = ""
    again: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return not self.again and not unproven(self.objects)

    @property
    def summary(self) -> str:
        """The turn and its counts, or why there was none."""
        if self.turn is None:
            return self.reason
        bad = unproven(self.objects)
        words = f"turn {self.turn.number}: {self.counts}"
        words += f"; {len(bad)} not: {bad[0].key}: {bad[0].reason}" if bad else ""
        return f"{words}; {self.reason}" if self.reason else words


def kept_by(number: int, rows: Iterable[Row]) -> dict[str, str]:
    """Return the copies that a turn made of content that it replaced, digest by key."""
    befores = ((row.key, row.before) for row in rows if row.act is Act.REPLACE and row.before)
    return {held.key: held.sha256 for key, held in befores if held.key == kept_key(number, latest_name(key))}
