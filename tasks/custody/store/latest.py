"""Define a numbered transaction ("turn") of latest/, how it is stored, and its result (runbook §5).

The process that creates the number has the turn, so two cannot run at once. A turn without a commit is resumed by the
next one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter

from tasks.custody.evidence.keys import begun_key, done_key, latest_name
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.step_result import StepResult
from tasks.custody.store.receipts import ObjectReceipt, unproven
from tasks.custody.store.rows import read_rows, spell_rows

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
class LatestRow:
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
    rows: tuple[LatestRow, ...]
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
        return spell_rows({**fields, "begun_at": self.begun_at.isoformat()}, "rows", map(_row_fields, self.rows))

    @classmethod
    def read(cls, pieces: Iterable[bytes]) -> "LatestTransaction":
        """Parse a transaction. Raises ValueError if it is invalid, or names keys outside the store's layout."""
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
_ROW: Final = TypeAdapter(LatestRow)


def _row_fields(row: LatestRow) -> dict[str, Any]:
    return {"key": row.key, "act": row.act, "before": _held_fields(row.before), "after": _held_fields(row.after)}


def _held_fields(held: ObjectRef | None) -> dict[str, Any] | None:
    if held is None:
        return None
    parts = held.parts and {"size": held.parts.size, "total": held.parts.total, "digests": held.parts.digests}
    return {"sha256": held.sha256, "size": held.size, "key": held.key, "parts": parts}


def _row(data: bytes) -> LatestRow:
    """Parse a row. An unchanged content is stored once."""
    row = _ROW.validate_json(data)
    if not latest_name(row.key):
        raise ValueError("its rows lie in latest/")
    held = [each.key for each in (row.before, row.after) if each and each.key]
    if not all(key.startswith(("incidents/", "snapshots/", "promotions/")) for key in held):
        raise ValueError("what it names as held lies below incidents/, snapshots/ or promotions/")
    return replace(row, after=row.before) if row.after == row.before else row


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
    def is_transient(self) -> bool:
        """Whether it was left for now."""
        return self.again

    @property
    def summary(self) -> str:
        """The turn and its counts, or why there was none."""
        if self.turn is None:
            return self.reason
        bad = unproven(self.objects)
        words = f"turn {self.turn.number}: {self.counts}"
        words += f"; {len(bad)} not: {bad[0].key}: {bad[0].reason}" if bad else ""
        return f"{words}; {self.reason}" if self.reason else words
