"""§5: return latest/ to its state before one of its transactions, by copying from the keys that transactions name."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from blocks.port import Store
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import is_ahead
from tasks.custody.store.latest import CHANGES, LatestRow, LatestTransaction, ObjectRef, Promotion
from tasks.latest.history import History, at_key, history, present, read_transaction
from tasks.latest.transaction import ChangeRequest, Log, change_latest, plan_change, verify_backups

_SHOWN: Final = 10


@dataclass(frozen=True)
class RollbackRequest:
    """Request for a rollback: before which transaction (0: the last), and by whom.

    `take_over` supersedes an open transaction whose run is dead.
    """

    by: str
    before: int = 0
    take_over: bool = False


def rollback(store: Store, request: RollbackRequest, log: Log) -> Promotion:
    """Return latest/ to an earlier state, in a transaction of its own, so that it can be undone too.

    Raises Refused, with nothing changed, if there is no such transaction or if content is no longer held anywhere;
    LatestBusy while another transaction is open.
    """
    change = _build_change(store, request)
    if not history(store).open and not any(row.act in CHANGES for row in _rows(store, change)):
        return Promotion(reason=f"latest/ is what it was before turn {change.reverts}; nothing was done")
    return change_latest(store, change, log, now=datetime.now(UTC), take_over=request.take_over)


def plan_of(store: Store, request: RollbackRequest) -> tuple[LatestRow, ...]:
    """Plan a rollback file by file, without changing anything."""
    return _rows(store, _build_change(store, request))


def lower(store: Store, request: RollbackRequest, log: Log) -> Promotion:
    """Lower the newest promoted incident, so that earlier ones may promote again. Changes no file.

    The transaction records the former value and who asked. Raises Refused if there is nothing to lower, LatestBusy
    while another transaction is open.
    """
    return change_latest(store, lowering(store, request), log, now=datetime.now(UTC), take_over=request.take_over)


def lowering(store: Store, request: RollbackRequest) -> ChangeRequest:
    """Return the request that restores the newest incident before the given transaction, or before future ones."""
    past, now = history(store), datetime.now(UTC)
    if not 0 <= request.before <= past.number:
        raise _no_turn(past, request)
    newest = past.last.newest if past.last else ""
    last = request.before - 1 if request.before else past.number
    marks = (read_transaction(store, number)[0].newest for number in range(last, 0, -1))
    to = next((mark for mark in marks if request.before or not is_ahead(mark, now)), "")
    if not to < newest:
        raise Refused(
            f"{newest or 'an incident'}, the newest that has promoted, to be later than one before it",
            to or "none",
            "Where its time has come meanwhile, give TURN, the number of the turn that brought it.",
        )
    return ChangeRequest({}, request.by, lower_to=to)


def _rows(store: Store, request: ChangeRequest) -> tuple[LatestRow, ...]:
    past = history(store)
    return verify_backups(store, request, past, plan_change(store, request, past, datetime.now(UTC))).rows


def _build_change(store: Store, request: RollbackRequest) -> ChangeRequest:
    past = history(store)
    if past.last is None or not 0 <= request.before <= past.number:
        raise _no_turn(past, request)
    number = request.before or past.number
    later = [read_transaction(store, each)[0] for each in range(number, past.number)] + [past.last]
    there = present(store, past.last)
    objects = {key: _held_by(each, later) for key, each in later[0].before.items()}
    same = {key for key, each in objects.items() if key in there and there[key].sha256 == each.sha256}
    changed = {key: each for key, each in objects.items() if key not in same}
    gone = [key for key, each in changed.items() if not (each.key and at_key(store, each.key, each).proven)]
    if gone:
        raise Refused(
            f"everything that latest/ was before turn {number} to be held by an incident, a snapshot or a turn",
            f"nobody who holds {', '.join(gone[:_SHOWN])}{' and more' if len(gone) > _SHOWN else ''}",
            "Pull what is held (evacuation pull), or roll back to before another turn.",
        )
    return ChangeRequest(objects, request.by, reverts=number, remove=there.keys() - objects.keys())


def _no_turn(past: History, request: RollbackRequest) -> Refused:
    got = str(request.before or "none at all")
    return Refused(f"one of the turns 1 to {past.number} of latest/", got, "Look into promotions/ in the store.")


def _held_by(content: ObjectRef, turns: Iterable[LatestTransaction]) -> ObjectRef:
    """Return the content with a key that holds it: its own, or one that a later transaction names."""
    rows = (row for turn in turns for row in turn.rows)
    references = (each for row in rows for each in (row.before, row.after) if each and each.key)
    return content if content.key else next((each for each in references if each.sha256 == content.sha256), content)
