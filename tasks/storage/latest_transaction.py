"""§5: apply a transaction of latest/: read what is there, take the number, change it, say that it is done."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final, Protocol

from tasks.custody.containment.receipt import ObjectReceipt, unproven
from tasks.custody.errors import Conflict, Denied, PermanentStoreError, Refused, StoreError, TransientStoreError
from tasks.custody.evidence.keys import LATEST, TURNS, begun_key, done_key, kept_key, latest_name, turn_of
from tasks.custody.store.latest import (
    AT_WORK,
    CHANGES,
    Act,
    Latest,
    LatestPolicy,
    LatestTransaction,
    ObjectRef,
    Promotion,
    Row,
    TurnProof,
    kept_by,
    pending,
    plan,
    why_not_now,
)
from tasks.custody.store.manifest import canonical, digest, digest_bytes
from tasks.custody.store.rows import require_readable
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch, read_back
from tasks.system.parallel import QUESTIONS, side_by_side

if TYPE_CHECKING:
    from blocks.port import Store, StoredObject

_IN_MEMORY: Final = 10_000
_LEFT: Final = "latest/ was left as it is."
_FEWER: Final = "Remove from latest/ what nobody reads any more, or leave it out of the workload block's patterns."


class Log(Protocol):
    """Hears of each act, as the custody log does."""

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """One act: what was done, to what, with which result."""


class Busy(Refused):
    """Somebody else changes latest/ at this moment."""


class NotOurs(Refused):
    """The store does not let this identity change latest/."""


@dataclass(frozen=True)
class History:
    """How far latest/ has come: the highest number that is taken, and the turn that has it."""

    number: int = 0
    last: LatestTransaction | None = None
    proof: TurnProof | None = None

    @property
    def open(self) -> LatestTransaction | None:
        """The last turn, if it was begun and is not done."""
        return self.last if self.proof is None else None


def nothing(there: Latest) -> frozenset[str]:
    """Whatever is there may stay."""
    del there
    return frozenset()


@dataclass(frozen=True)
class ChangeRequest:
    """What somebody wants of latest/: `wanted` is to be there, of the rest `remove` may go.

    `surplus` says, of what is there, what a mirror would let go. `lower_to` is the incident that counts as the newest
    afterwards, where that is not decided by `incident`.
    """

    wanted: Latest
    by: str
    incident: str = ""
    policy: LatestPolicy = "guarded"
    undoes: int | None = None
    surplus: Callable[[Latest], Collection[str]] = nothing
    remove: Collection[str] = ()
    lower_to: str | None = None


def read_turn(store: "Store", number: int) -> tuple[LatestTransaction, str]:
    """What a turn was about to do, and the digest of that. PermanentStoreError if it cannot be made out."""
    whole = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in store.stream(begun_key(number)):
            whole.update(piece)
            yield piece

    try:
        turn = LatestTransaction.read(hashed())
    except ValueError as error:
        said = str(error).partition("\n")[0]
        raise _unreadable(store, number, said) from error
    if turn.number != number:
        raise _unreadable(store, number, f"the record of turn {turn.number}")
    return turn, whole.hexdigest()


def _unreadable(store: "Store", number: int, said: str) -> PermanentStoreError:
    return PermanentStoreError(
        f"{begun_key(number)} in {store.place} to be the record of a turn",
        said,
        "latest/ was left as it is.",
        "Find out who wrote it; what latest/ was is in the turns before it (docs/latest.md).",
    )


def history(store: "Store") -> History:
    """Read the last turn; an object under a turn's number takes that number, whoever put it there."""
    number, last_done = 0, 0
    for key in (each.key for each in store.list(TURNS)):
        number = max(number, turn_of(key))
        last_done = max(last_done, turn_of(key) if key == done_key(turn_of(key)) else 0)
    if not number:
        return History()
    turn, begun = read_turn(store, number)
    if last_done < number:
        return History(number, turn)
    done = digest_bytes(fetch(store, done_key(number), DOCUMENT_LIMIT))
    return History(number, turn, TurnProof(number, begun, done, kept_by(number, turn.rows)))


def present(store: "Store", last: LatestTransaction | None) -> dict[str, ObjectRef]:
    """All of latest/ by the store's own digests, each with the key that the last turn knows to hold the same."""
    known = {row.key: tuple(each for each in (row.after, row.before) if each) for row in last.rows} if last else {}
    keys = [each.key for each in store.list(LATEST)]
    seen = side_by_side(store.head, keys, QUESTIONS)
    return {there.key: _held(store, there, known.get(there.key, ())) for there in seen if there}


def _held(store: "Store", there: "StoredObject", known: Collection[ObjectRef]) -> ObjectRef:
    for each in known:
        if there.agrees(each.sha256, each.parts):
            return each
    return ObjectRef(there.sha256 or read_back(store, there.key, there.size), there.size)


def take_turn(store: "Store", wish: ChangeRequest, log: Log, *, now: datetime, take_over: bool = False) -> Promotion:
    """Change latest/ as somebody wishes, in a turn of its own.

    Raises Busy while another has a turn (`take_over` says that it is known to be dead) or if another was quicker,
    StoreError where the store fails: then the turn is left open, and the next one carries it on.
    """
    past = history(store)
    if past.open and not take_over and (why_not := why_not_now(past.open, wish.incident, now)):
        raise Busy("nobody else to change latest/", why_not, "Run this again when it is done, or after 15 minutes.")
    turn = planned(store, wish, past, now)
    if past.proof and past.last and _adopts(past.last, turn):
        return Promotion(_receipts(store, wish.wanted, turn), past.proof, turn.summary)
    try:
        begun = _begin(store, turn)
    except Conflict as error:
        raise Busy(f"turn {turn.number} of latest/", "another run that was quicker", "Run this again.") from error
    except Denied as error:
        raise NotOurs(
            "an identity that may change latest/", error.got, "Give the store block a promoter (docs/latest.md)."
        ) from error
    left = {act: [row.key for row in turn.rows if row.act is act] for act in (Act.KEEP, Act.WOULD_DELETE)}
    log.write("turn begun", begun_key(turn.number), sha256=begun, result=turn.summary, left={**left})
    _carry_out(store, turn, log)
    receipts = _receipts(store, wish.wanted, turn)
    if bad := unproven(receipts):
        raise _changed(store, bad[0].key, bad[0].reason)
    done = canonical({"turn": turn.number, "begun": begun, "by": wish.by, "done_at": datetime.now(UTC).isoformat()})
    store.create(done_key(turn.number), done, digest_bytes(done))
    proof = TurnProof(turn.number, begun, digest_bytes(done), kept_by(turn.number, turn.rows))
    log.write("turn done", done_key(turn.number), sha256=proof.done, result=turn.summary)
    return Promotion(receipts, proof, turn.summary)


def _begin(store: "Store", turn: LatestTransaction) -> str:
    """Create what tells of the turn; its digest. That of many files is sent from a file: it may fill the memory."""
    key = begun_key(turn.number)
    if len(turn.rows) <= _IN_MEMORY:
        data = turn.to_bytes()
        store.create(key, data, digest_bytes(data))
        return digest_bytes(data)
    with NamedTemporaryFile(prefix="evacuation-turn-") as file:
        file.writelines(turn.pieces())
        file.flush()
        require_readable(key, len(turn.rows), file.tell(), _LEFT, _FEWER)
        begun = digest(Path(file.name))
        store.create(key, Path(file.name), begun)
    return begun


def _adopts(last: LatestTransaction, turn: LatestTransaction) -> bool:
    """An earlier run of the incident has done it all, and only could not tell of it any more."""
    same = (last.incident, last.policy) == (turn.incident, turn.policy)
    return same and turn.incident != "" and not any(row.act in CHANGES for row in turn.rows)


def planned(store: "Store", wish: ChangeRequest, past: History, now: datetime) -> LatestTransaction:
    """What would be done now. What an open turn has left is done with it, where the wish says nothing else."""
    coming, going = pending(past.open) if past.open and not wish.undoes else ({}, frozenset[str]())
    there, wanted = present(store, past.last), {**coming, **wish.wanted}
    make = partial(plan, past.number + 1, wanted=wanted, surplus=wish.surplus(there), remove={*wish.remove, *going})
    rows = make(there)
    if gone := _no_longer_held(store, past.number + 1, rows):
        there |= {key: replace(there[key], key="") for key in gone}
        rows = make(there)
    newest = past.last.newest if past.last else ""
    return LatestTransaction(
        number=past.number + 1,
        incident=wish.incident,
        policy=wish.policy,
        by=wish.by,
        begun_at=now,
        rows=rows,
        newest=max(newest, wish.incident) if wish.lower_to is None else wish.lower_to,
        undoes=wish.undoes,
        carries_on=past.open.number if past.open else None,
        lowered="" if wish.lower_to is None else newest,
    )


def _no_longer_held(store: "Store", turn: int, rows: Collection[Row]) -> list[str]:
    """Files that the turn takes away although what is said to hold the same does not."""
    going = [
        (row.key, row.before)
        for row in rows
        if row.act in {Act.REPLACE, Act.DELETE}
        and row.before
        and row.before.key != kept_key(turn, latest_name(row.key))
    ]
    receipts = side_by_side(lambda item: at_key(store, item[1].key, item[1]), going, QUESTIONS)
    return [key for (key, _), receipt in zip(going, receipts, strict=True) if not receipt.proven]


def _carry_out(store: "Store", turn: LatestTransaction, log: Log) -> None:
    """File by file, what is deleted last. Ends before anybody may believe that this run is dead."""
    until = time.monotonic() + AT_WORK.total_seconds()

    def change(row: Row) -> None:
        if time.monotonic() > until:
            raise TransientStoreError(
                f"turn {turn.number} of latest/ to be done within {AT_WORK}",
                "more to do",
                "It is not done.",
                "Run again.",
            )
        _change(store, turn.number, row)
        log.write("promoted", row.key, act=row.act, sha256=_sha256(row.after), replaced=_sha256(row.before))

    for acts in ({Act.ADD, Act.REPLACE}, {Act.DELETE}):
        deque(side_by_side(change, (row for row in turn.rows if row.act in acts), QUESTIONS), maxlen=0)


def _change(store: "Store", turn: int, row: Row) -> None:
    if row.before and row.before.key == kept_key(turn, latest_name(row.key)):
        store.copy(row.key, row.before.key, row.before.sha256, row.before.parts)
        if not (receipt := at_key(store, row.before.key, row.before)).proven:
            raise _changed(store, row.key, receipt.reason)
    if row.after:
        store.copy(row.after.key, row.key, row.after.sha256, row.after.parts, replace=True)
    elif row.before:
        store.remove(row.key, row.before.sha256, row.before.parts)


def _changed(store: "Store", key: str, reason: str) -> StoreError:
    return TransientStoreError(
        f"{key} in {store.place} to be what the turn says", reason, "The turn is left open.", "Run this again."
    )


def _sha256(held: ObjectRef | None) -> str | None:
    return held.sha256 if held else None


def _receipts(store: "Store", wanted: Latest, turn: LatestTransaction) -> tuple[ObjectReceipt, ...]:
    """What the turn kept was asked for when it was planned; of the rest the store is asked now."""
    kept = {row.key for row in turn.rows if row.act is Act.KEEP}

    changed = [item for item in wanted.items() if item[0] not in kept]
    now = {each.key: each for each in side_by_side(lambda item: at_key(store, *item), changed, QUESTIONS)}
    return tuple(
        ObjectReceipt(key, held.sha256, held.size, proven=True) if key in kept else now[key]
        for key, held in wanted.items()
    )


def at_key(store: "Store", key: str, held: ObjectRef) -> ObjectReceipt:
    """What the store says of the content at a key, its bytes read back where it has no digest to compare."""
    there = store.head(key)
    said = there and there.says(held.sha256, held.parts)
    got = said or (read_back(store, key, held.size) if there else "no object")
    reason = "" if got == held.sha256 else f"expected sha256 {held.sha256}, the store has {got}"
    return ObjectReceipt(key, held.sha256, held.size, proven=not reason, reason=reason, read=bool(there) and not said)
