"""§5 undone: bring latest/ back to what it was before one of its turns, from the keys that the turns name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tasks.custody.errors import Refused
from tasks.custody.turn import CHANGES, Held, Promotion, Row, Turn
from tasks.latest import Log, Wish, at_key, history, planned, present, read_turn, take_turn

if TYPE_CHECKING:
    from blocks.port import Store

_SHOWN: Final = 10


@dataclass(frozen=True)
class Undoing:
    """What is asked: before which turn (the last one if 0), by whom; `take_over` ends a turn whose run is dead."""

    by: str
    before: int = 0
    take_over: bool = False


def rollback(store: "Store", asked: Undoing, log: Log) -> Promotion:
    """Bring it back in a turn of its own, so that it can be undone too.

    Raises Refused, with nothing touched, if there is no such turn, or if something of it is held by nobody any more;
    Busy while another has a turn.
    """
    wish = _wish(store, asked)
    if not any(row.act in CHANGES for row in _rows(store, wish)):
        return Promotion(reason=f"latest/ is what it was before turn {wish.undoes}; nothing was done")
    return take_turn(store, wish, log, now=datetime.now(UTC), take_over=asked.take_over)


def plan_of(store: "Store", asked: Undoing) -> tuple[Row, ...]:
    """What a rollback would do now, file by file."""
    return _rows(store, _wish(store, asked))


def _rows(store: "Store", wish: Wish) -> tuple[Row, ...]:
    return planned(store, wish, history(store), datetime.now(UTC)).rows


def _wish(store: "Store", asked: Undoing) -> Wish:
    past = history(store)
    if past.last is None or not 0 <= asked.before <= past.number:
        got = str(asked.before or "none at all")
        raise Refused(f"one of the turns 1 to {past.number} of latest/", got, "Look into promotions/ in the store.")
    number = asked.before or past.number
    later = [read_turn(store, each)[0] for each in range(number, past.number)] + [past.last]
    there = present(store, past.last)
    wanted = {key: _held_by(each, later) for key, each in later[0].before.items()}
    _require_held(store, number, {key: each for key, each in wanted.items() if not _same(there.get(key), each)})
    return Wish(wanted, asked.by, undoes=number, remove=there.keys() - wanted.keys())


def _held_by(content: Held, turns: Iterable[Turn]) -> Held:
    """The key that holds it, which a later turn may have been the first to know."""
    rows = (row for turn in turns for row in turn.rows)
    known = (each for row in rows for each in (row.before, row.after) if each and each.key)
    return content if content.key else next((each for each in known if each.sha256 == content.sha256), content)


def _same(there: Held | None, wanted: Held) -> bool:
    return there is not None and there.sha256 == wanted.sha256


def _require_held(store: "Store", number: int, wanted: Mapping[str, Held]) -> None:
    gone = [key for key, each in wanted.items() if not (each.key and at_key(store, each.key, each).proven)]
    if gone:
        raise Refused(
            f"everything that latest/ was before turn {number} to be held by an incident, a snapshot or a turn",
            f"nobody who holds {', '.join(gone[:_SHOWN])}{' and more' if len(gone) > _SHOWN else ''}",
            "Pull what is held (make pull), or roll back to before another turn.",
        )
