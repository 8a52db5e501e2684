"""§5: change latest/ in one transaction: read, lock, plan, verify backups, write intent, apply, commit.

See docs/adr/0020.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, Protocol

from blocks.port import Store
from tasks.custody.errors import Conflict, Denied, Refused, StoreError, TransientStoreError
from tasks.custody.evidence.keys import begun_key, done_key, kept_key, latest_name
from tasks.custody.store.latest import (
    AT_WORK,
    CHANGES,
    Act,
    Latest,
    LatestPolicy,
    LatestRow,
    LatestTransaction,
    Promotion,
    TurnProof,
)
from tasks.custody.store.latest_plan import kept_copies, pending, plan, why_not_now
from tasks.custody.store.manifest import canonical, digest
from tasks.custody.store.objects import one_object
from tasks.custody.store.receipts import ObjectReceipt, unproven
from tasks.custody.store.rows import require_readable
from tasks.latest.history import History, at_key, history, present
from tasks.storage.verify_object import create_kept, require_kept
from tasks.system.parallel import QUESTIONS, side_by_side

_IN_MEMORY: Final = 10_000
_LEFT: Final = "latest/ was left as it is."
_FEWER: Final = "Remove from latest/ what nobody reads any more, or leave it out of the workload block's patterns."


class Log(Protocol):
    """Receives each act of a transaction, as the custody log does."""

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Log one act: what was done, to which subject, with which facts."""


class LatestBusy(Refused):
    """Another run is changing latest/."""


class NotOurs(Refused):
    """The store does not allow this identity to change latest/."""


@dataclass(frozen=True)
class ChangeRequest:
    """A request to change latest/: objects in `wanted` are to be there, other keys in `remove` may be deleted.

    `surplus` returns which existing keys a mirror would delete. `lower_to` sets the incident that counts as the newest
    afterwards; None leaves that to `incident`.
    """

    wanted: Latest
    by: str
    incident: str = ""
    policy: LatestPolicy = "guarded"
    reverts: int | None = None
    surplus: Callable[[Latest], Collection[str]] = lambda _: ()
    remove: Collection[str] = ()
    lower_to: str | None = None


def change_latest(
    store: Store, request: ChangeRequest, log: Log, *, now: datetime, take_over: bool = False
) -> Promotion:
    """Change latest/ as requested, in one transaction.

    Raises LatestBusy if another transaction is open (`take_over` states that its run is known to be dead) or another
    run took the number first. Raises StoreError if the store fails: the transaction then stays open, and the next one
    completes it.
    """
    past = history(store)
    # who creates the next number's intent has the lock
    if past.open and not take_over and (why_not := why_not_now(past.open, request.incident, now)):
        remedy = "Run this again when it is done, or after 15 minutes."
        raise LatestBusy("nobody else to change latest/", why_not, remedy)
    transaction = verify_backups(store, request, past, plan_change(store, request, past, now))
    is_done = request.incident and not any(row.act in CHANGES for row in transaction.rows)
    same = past.last and (past.last.incident, past.last.policy) == (request.incident, request.policy)
    if is_done and same and past.proof:  # by an earlier run of the incident, which ended before it could report that
        return Promotion(_receipts(request.wanted, transaction, {}), past.proof, transaction.summary)
    begun, number = _write_intent(store, transaction, log), transaction.number
    receipts = _receipts(request.wanted, transaction, _apply(store, transaction, log))
    if bad := unproven(receipts):
        raise _build_change_error(store, bad[0].key, bad[0].reason)
    done = canonical({"turn": number, "begun": begun, "by": request.by, "done_at": datetime.now(UTC).isoformat()})
    proof = TurnProof(number, begun, create_kept(store, done_key(number), done), kept_copies(number, transaction.rows))
    log.write("turn done", done_key(number), sha256=proof.done, result=transaction.summary)
    return Promotion(receipts, proof, transaction.summary)


def plan_change(store: Store, request: ChangeRequest, past: History, now: datetime) -> LatestTransaction:
    """Plan the transaction: the request, and what an open transaction left undone where the request does not decide."""
    newest = past.last.newest if past.last else ""
    return LatestTransaction(
        number=past.number + 1,
        incident=request.incident,
        policy=request.policy,
        by=request.by,
        begun_at=now,
        rows=_rows(request, past, present(store, past.last)),
        newest=max(newest, request.incident) if request.lower_to is None else request.lower_to,
        undoes=request.reverts,
        carries_on=past.open.number if past.open else None,
        lowered="" if request.lower_to is None else newest,
    )


def _rows(request: ChangeRequest, past: History, there: Latest) -> tuple[LatestRow, ...]:
    coming, going = pending(past.open) if past.open and not request.reverts else ({}, frozenset[str]())
    objects, remove = {**coming, **request.wanted}, {*request.remove, *going}
    return plan(past.number + 1, there, objects, surplus=request.surplus(there), remove=remove)


def verify_backups(
    store: Store, request: ChangeRequest, past: History, transaction: LatestTransaction
) -> LatestTransaction:
    """Plan again without backups that the store no longer has, so that no content is deleted whose only copy it is."""
    number, changed = transaction.number, [row for row in transaction.rows if row.act in {Act.REPLACE, Act.DELETE}]
    going = [(row.key, row.before) for row in changed if row.before and not _makes_backup(number, row)]
    receipts = side_by_side(lambda item: at_key(store, item[1].key, item[1]), going, QUESTIONS)
    backed = zip(going, receipts, strict=True)
    lost = {key: replace(before, key="") for (key, before), receipt in backed if not receipt.proven}
    return replace(transaction, rows=_rows(request, past, {**transaction.before, **lost})) if lost else transaction


def _makes_backup(number: int, row: LatestRow) -> bool:
    return row.before is not None and row.before.key == kept_key(number, latest_name(row.key))


def _write_intent(store: Store, transaction: LatestTransaction, log: Log) -> str:
    """Create the transaction's intent object, which takes the lock, and return its SHA-256."""
    key = begun_key(transaction.number)
    try:
        begun = _create(store, key, transaction)
    except Conflict as error:
        expected = f"turn {transaction.number} of latest/"
        raise LatestBusy(expected, "another run that was quicker", "Run this again.") from error
    except Denied as error:
        remedy = "Give the store block a promoter (docs/latest.md)."
        raise NotOurs("an identity that may change latest/", error.got, remedy) from error
    remaining = {act: [row.key for row in transaction.rows if row.act is act] for act in (Act.KEEP, Act.WOULD_DELETE)}
    log.write("turn begun", key, sha256=begun, result=transaction.summary, left={**remaining})
    return begun


def _create(store: Store, key: str, transaction: LatestTransaction) -> str:
    """Create the intent object. A large one is written to a temporary file first, to bound memory."""
    if len(transaction.rows) <= _IN_MEMORY:
        return create_kept(store, key, transaction.to_bytes())
    with NamedTemporaryFile(prefix="evacuation-turn-") as file:
        file.writelines(transaction.pieces())
        file.flush()
        require_readable(key, len(transaction.rows), file.tell(), _LEFT, _FEWER)
        begun = digest(Path(file.name))
        store.create(key, Path(file.name), begun)
        require_kept(store, [one_object(key, file.tell(), begun)])
    return begun


def _apply(store: Store, transaction: LatestTransaction, log: Log) -> dict[str, ObjectReceipt]:
    """Apply each row, deletions last, and return a receipt by key for each that is now there.

    Stops before the time after which other runs take this one for dead.
    """
    until = time.monotonic() + AT_WORK.total_seconds()

    def change(row: LatestRow) -> ObjectReceipt | None:
        if time.monotonic() > until:
            wanted = f"turn {transaction.number} of latest/ to be done within {AT_WORK}"
            raise TransientStoreError(wanted, "more to do", "It is not done.", "Run again.")
        _change(store, transaction.number, row)
        digests = {"sha256": row.after and row.after.sha256, "replaced": row.before and row.before.sha256}
        log.write("promoted", row.key, act=row.act, **digests)
        return at_key(store, row.key, row.after) if row.after else None

    return {
        receipt.key: receipt
        for acts in ({Act.ADD, Act.REPLACE}, {Act.DELETE})
        for receipt in side_by_side(change, (row for row in transaction.rows if row.act in acts), QUESTIONS)
        if receipt
    }


def _change(store: Store, number: int, row: LatestRow) -> None:
    if row.before and _makes_backup(number, row):
        store.copy(row.key, row.before.key, row.before.sha256, row.before.parts)
        if not (receipt := at_key(store, row.before.key, row.before)).proven:
            raise _build_change_error(store, row.key, receipt.reason)
    elif row.after and (reason := _differs(store, row)):
        raise _build_change_error(store, row.key, reason)
    if row.after:
        store.copy(row.after.key, row.key, row.after.sha256, row.after.parts, replace=True)
    elif row.before:
        store.remove(row.key, row.before.sha256, row.before.parts)


def _differs(store: Store, row: LatestRow) -> str:
    """Return what somebody has put there since the plan, which has no backup; empty if nothing."""
    if row.before:
        return at_key(store, row.key, row.before).reason
    return "expected no object, the store has one" if store.head(row.key) else ""


def _build_change_error(store: Store, key: str, reason: str) -> StoreError:
    expected = f"{key} in {store.place} to be what the turn says"
    return TransientStoreError(expected, reason, "The turn is left open.", "Run this again.")


def _receipts(
    objects: Latest, transaction: LatestTransaction, applied: Mapping[str, ObjectReceipt]
) -> tuple[ObjectReceipt, ...]:
    """Return receipts for all wanted objects. Those that the transaction kept were proven when it was planned."""
    unchanged = {row.key for row in transaction.rows if row.act is Act.KEEP}
    return tuple(
        ObjectReceipt(key, ref.sha256, ref.size, proven=True) if key in unchanged else applied[key]
        for key, ref in objects.items()
    )
