"""§5: read the transactions of latest/, and what latest/ holds now."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from blocks.port import Store, StoredObject
from tasks.custody.errors import PermanentStoreError
from tasks.custody.evidence.keys import LATEST, TURNS, begun_key, done_key, turn_of
from tasks.custody.store.latest import LatestTransaction, ObjectRef, TurnProof
from tasks.custody.store.latest_plan import kept_copies
from tasks.custody.store.manifest import Hashed, digest_bytes
from tasks.custody.store.receipts import ObjectReceipt
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch, read_back
from tasks.system.parallel import QUESTIONS, side_by_side

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class History:
    """The state of latest/: the highest transaction number taken, and that transaction."""

    number: int = 0
    last: LatestTransaction | None = None
    proof: TurnProof | None = None

    @property
    def open(self) -> LatestTransaction | None:
        """The last transaction if it was begun and is not done, else None."""
        return self.last if self.proof is None else None


def history(store: Store) -> History:
    """Read the last transaction from the store. The intent of a transaction takes its number."""
    keys = [each.key for each in store.list(TURNS)]
    numbers = {number for key in keys if key == begun_key(number := turn_of(key))}
    if not (number := end_of_line(numbers)):
        return History()
    if beyond := max(numbers) - number:
        logger.warning("promotions/%06d/ in %s is no turn of ours, which leave no gap", number + beyond, store.place)
    last, begun = read_transaction(store, number)
    if done_key(number) not in keys:
        return History(number, last)
    done = digest_bytes(fetch(store, done_key(number), DOCUMENT_LIMIT))
    return History(number, last, TurnProof(number, begun, done, kept_copies(number, last.rows)))


def end_of_line(numbers: Iterable[int]) -> int:
    """Return the last number of the longest line without a gap, of the first such line; 0 without any number.

    A transaction takes the number after the last one, so what lies beyond a gap is none, whoever wrote it.
    """
    length = dict[int, int]()
    for number in sorted(numbers):
        length[number] = length.get(number - 1, 0) + 1
    return max(length, key=length.__getitem__, default=0)


def read_transaction(store: Store, number: int) -> tuple[LatestTransaction, str]:
    """Read the intent of a transaction, and return it with its SHA-256. PermanentStoreError if it is unreadable."""
    try:
        found = LatestTransaction.read(whole := Hashed(store.stream(begun_key(number))))
    except ValueError as error:
        raise _unreadable(store, number, str(error).partition("\n")[0]) from error
    if found.number != number:
        raise _unreadable(store, number, f"the record of turn {found.number}")
    return found, whole.sha256


def _unreadable(store: Store, number: int, message: str) -> PermanentStoreError:
    return PermanentStoreError(
        f"{begun_key(number)} in {store.place} to be the record of a turn",
        message,
        "latest/ was left as it is.",
        "Find out who wrote it; what latest/ was is in the turns before it (docs/latest.md).",
    )


def present(store: Store, last: LatestTransaction | None) -> dict[str, ObjectRef]:
    """Return each object of latest/ by key, with the key at which the last transaction knows the same content."""
    references = {row.key: tuple(each for each in (row.after, row.before) if each) for row in last.rows} if last else {}
    objects = side_by_side(store.head, [each.key for each in store.list(LATEST)], QUESTIONS)
    return {there.key: _object(store, there, references.get(there.key, ())) for there in objects if there}


def _object(store: Store, there: StoredObject, references: Collection[ObjectRef]) -> ObjectRef:
    for each in references:
        if there.agrees(each.sha256, each.parts):
            return each
    sha256 = there.sha256 or read_back(store, there.key, there.size)
    return next((each for each in references if each.sha256 == sha256), ObjectRef(sha256, there.size))


def at_key(store: Store, key: str, ref: ObjectRef) -> ObjectReceipt:
    """Compare the object at a key with `ref`. Reads its bytes back where the store has no comparable digest."""
    there = store.head(key)
    sha256 = there and there.says(ref.sha256, ref.parts)
    got = sha256 or (read_back(store, key, ref.size) if there else "no object")
    reason = "" if got == ref.sha256 else f"expected sha256 {ref.sha256}, the store has {got}"
    return ObjectReceipt(key, ref.sha256, ref.size, proven=not reason, reason=reason, read=bool(there) and not sha256)
