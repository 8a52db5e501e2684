"""latest/ in turns: what each leaves, what is never lost, what a run that died leaves to the next, two at once."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from threading import Barrier, Thread
from typing import Any

import pytest

from blocks.contract import has_content
from blocks.port import Store, StoredObject
from tasks.custody.errors import PermanentStoreError, StoreError
from tasks.custody.evidence.keys import begun_key, done_key, kept_key, latest_name
from tasks.custody.store.latest import GIVEN_UP, Act, LatestTransaction
from tasks.custody.store.manifest import digest_bytes
from tasks.latest.history import end_of_line, history
from tasks.latest.rollback import RollbackRequest, rollback
from tasks.latest.transaction import LatestBusy, change_latest
from tests.support.holdings import (
    FIRST,
    LOG,
    MODEL,
    NOW,
    SCORES,
    SECOND,
    THIRD,
    Unheard,
    latest,
    overwrite,
    put,
    sha,
    snapshot,
    turn_for,
)
from tests.support.memory_store import MemoryStore


class Killed(BaseException):
    """The process is gone."""


class KilledAt:
    """Hears of what is done, and is gone at one moment."""

    def __init__(self, *moment: str) -> None:
        """By action and object."""
        self._moment = moment

    def write(self, action: str, subject: str = "", **_: object) -> None:
        """Go, or stay."""
        if (action, subject) == self._moment:
            raise Killed


def test_a_turn_leaves_what_it_did_and_where_all_of_it_is_held(place: Store) -> None:
    turn_for(place, snapshot(place, FIRST, model="1", scores="1", log="old"))
    made = turn_for(place, snapshot(place, SECOND, model="2", scores="1"))
    assert made.is_complete
    assert made.summary == "turn 2: 1 replace, 2 keep"
    assert latest(place) == {MODEL: "2", SCORES: "1", LOG: "old"}
    turn = LatestTransaction.read([place.read(begun_key(2))])
    rows = {row.key: row for row in turn.rows}
    assert (rows[MODEL].act, rows[LOG].act) == (Act.REPLACE, Act.KEEP)
    before, after = rows[MODEL].before, rows[MODEL].after
    assert before
    assert after
    assert (before.sha256, before.key) == (sha("1"), "snapshots/20260102T030405Z/models/model_a.joblib")
    assert (after.sha256, after.key) == (sha("2"), "snapshots/20260102T040405Z/models/model_a.joblib")
    assert made.turn
    assert made.turn.begun == digest_bytes(place.read(begun_key(2)))
    assert made.turn.done == digest_bytes(place.read(done_key(2)))
    assert json.loads(place.read(done_key(2)))["begun"] == made.turn.begun


def test_what_a_person_put_there_is_kept_before_it_is_replaced(place: Store) -> None:
    overwrite(place, MODEL, "by hand")
    made = turn_for(place, snapshot(place, FIRST, model="1"))
    assert latest(place) == {MODEL: "1"}
    assert place.read(kept_key(1, latest_name(MODEL))) == b"by hand"
    assert made.turn
    assert made.turn.kept == {kept_key(1, latest_name(MODEL)): sha("by hand")}


def test_a_snapshot_that_is_gone_holds_nothing_any_more() -> None:
    store = MemoryStore()
    wish = snapshot(store, FIRST, model="1")
    turn_for(store, wish)
    del store._objects[wish.wanted[MODEL].key]
    turn_for(store, snapshot(store, SECOND, model="2"))
    assert store.read(kept_key(2, latest_name(MODEL))) == b"1"


def test_a_mirror_deletes_only_what_is_held(place: Store) -> None:
    turn_for(place, snapshot(place, FIRST, model="1", log="1"))
    overwrite(place, SCORES, "by hand")
    wish = replace(snapshot(place, SECOND, model="2"), remove={LOG, SCORES})
    assert turn_for(place, wish).counts == "1 replace, 1 delete, 1 would delete"
    assert latest(place) == {MODEL: "2", SCORES: "by hand"}


MOMENTS = [
    ("turn begun", begun_key(2)),
    ("promoted", MODEL),
    ("promoted", SCORES),
    ("promoted", LOG),
]


@pytest.mark.parametrize(("action", "subject"), MOMENTS)
@pytest.mark.parametrize("by", ["its own incident", "a later one", "a later one with nothing of its own"])
def test_a_turn_that_was_broken_off_is_finished_by_the_next(action: str, subject: str, by: str) -> None:
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    wish = replace(snapshot(store, SECOND, model="2", scores="2"), remove={LOG})
    with pytest.raises(Killed):
        change_latest(store, wish, KilledAt(action, subject), now=NOW)
    assert history(store).open
    if by == "its own incident":
        made = turn_for(store, wish, now=NOW)
        expected = {MODEL: "2", SCORES: "2"}
    else:
        files = {"model": "3"} if by == "a later one" else {}
        made = turn_for(store, snapshot(store, THIRD, **files), now=NOW + GIVEN_UP + timedelta(seconds=1))
        expected = {MODEL: files.get("model", "2"), SCORES: "2"}
    assert latest(store) == expected
    assert made.is_complete
    turn = LatestTransaction.read([store.read(begun_key(3))])
    assert turn.carries_on == 2
    assert store.head(done_key(3))


def test_killed_after_its_last_act_it_is_not_done_again() -> None:
    store = MemoryStore()
    wish = snapshot(store, FIRST, model="1")
    with pytest.raises(Killed):
        change_latest(store, wish, KilledAt("turn done", done_key(1)), now=NOW)
    made = turn_for(store, wish)
    assert made.turn
    assert (made.turn.number, made.summary) == (1, "turn 1: 1 keep")
    assert not store.head(begun_key(2))


def test_while_another_is_at_work_it_is_refused_and_nothing_changes(place: Store) -> None:
    with pytest.raises(Killed):
        change_latest(place, snapshot(place, FIRST, model="1"), KilledAt("turn begun", begun_key(1)), now=NOW)
    with pytest.raises(LatestBusy, match=f"turn 1 \\({FIRST}, by run of {FIRST}\\) is under way"):
        turn_for(place, snapshot(place, SECOND, model="2"), now=NOW + timedelta(minutes=14))
    assert latest(place) == {}
    turn_for(place, snapshot(place, SECOND, scores="2"), now=NOW, take_over=True)
    assert latest(place) == {MODEL: "1", SCORES: "2"}


def test_of_many_at_once_one_has_the_turn_and_the_others_are_refused(place: Store) -> None:
    wishes = [snapshot(place, f"IR-2026010{day}T030405Z", model=f"{day}") for day in range(1, 9)]
    barrier, told = Barrier(len(wishes)), list[Any]()

    def run(number: int) -> None:
        barrier.wait()
        try:
            told.append(turn_for(place, wishes[number]).summary)
        except LatestBusy as busy:
            told.append(busy)

    threads = [Thread(target=run, args=(number,)) for number in range(len(wishes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns = [LatestTransaction.read([place.read(begun_key(number))]) for number in range(1, history(place).number + 1)]
    assert len(turns) == len([each for each in told if isinstance(each, str)]) >= 1
    assert len(told) == len(wishes)
    assert latest(place) == {MODEL: turns[-1].incident[10]}
    for earlier, later in pairwise(turns):
        assert later.before == earlier.after  # nobody's work was overwritten unseen


class FailingStore(MemoryStore):
    """Refuses to copy to one key."""

    refused = ""

    def copy(self, source: str, key: str, sha256: str, *args: Any, **kwargs: Any) -> None:
        """Or do it."""
        if key == self.refused:
            raise PermanentStoreError(key, "AccessDenied", "Nothing.", "Nothing.")
        super().copy(source, key, sha256, *args, **kwargs)


def test_a_store_that_fails_leaves_the_turn_open_and_deletes_nothing() -> None:
    store = FailingStore()
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    store.refused = MODEL
    wish = replace(snapshot(store, SECOND, model="2", scores="2"), remove={LOG})
    with pytest.raises(StoreError, match="AccessDenied"):
        turn_for(store, wish)
    assert latest(store)[LOG] == "1"
    assert history(store).open
    store.refused = ""
    turn_for(store, wish)
    assert latest(store) == {MODEL: "2", SCORES: "2"}


@pytest.mark.parametrize("before", ["nothing", "by hand", "a turn's"])
def test_a_file_that_somebody_changes_meanwhile_is_noticed_and_held_by_the_next_turn(before: str) -> None:
    store = MemoryStore()
    if before == "by hand":
        put(store, MODEL, before)
    elif before == "a turn's":
        turn_for(store, snapshot(store, FIRST, model="1"))

    class Person:
        def write(self, action: str, subject: str = "", **_: object) -> None:
            del subject
            if action == "turn begun":
                overwrite(store, MODEL, "another hand")

    wish = snapshot(store, SECOND, model="2")
    with pytest.raises(StoreError):
        change_latest(store, wish, Person(), now=NOW)
    assert latest(store) == {MODEL: "another hand"}
    turn_for(store, wish, take_over=True)
    assert latest(store) == {MODEL: "2"}
    assert "another hand" in {store.read(each.key).decode() for each in store.list("promotions/")}


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_number_that_somebody_else_took_is_named_and_nothing_changes(data: bytes) -> None:
    store = MemoryStore()
    store.create(begun_key(1), data, digest_bytes(data))
    with pytest.raises(PermanentStoreError, match="record of a turn"):
        turn_for(store, snapshot(store, FIRST, model="1"))
    assert latest(store) == {}


class SilentStore(MemoryStore):
    """Tells no digest, as Ceph's gateway does."""

    def head(self, key: str) -> StoredObject | None:
        """Size alone."""
        there = super().head(key)
        return there and replace(there, sha256=None)

    def ensure_present(self, key: str, sha256: str, parts: object = None) -> bool:
        """By the content itself."""
        del parts
        return has_content(self.place, key, super().head(key), sha256)


def test_what_lies_in_latest_is_known_by_its_bytes_where_no_digest_is_told() -> None:
    store = SilentStore()
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    turn_for(store, snapshot(store, SECOND, model="2", log="1"))
    rollback(store, RollbackRequest("a test", before=1), Unheard())
    assert latest(store) == {}


@pytest.mark.parametrize("key", ["promotions/999999/x", "promotions/999999999/begun.json", "promotions/000003/kept/x"])
def test_what_others_have_put_beyond_the_last_turn_stops_none(place: Store, key: str) -> None:
    """One object stopped every promotion, for ever."""
    turn_for(place, snapshot(place, FIRST, model="1"))
    put(place, key, "{}")
    for number, incident in ((2, SECOND), (3, THIRD)):
        assert turn_for(place, snapshot(place, incident, model=str(number))).is_complete
        assert history(place).number == number
    assert latest(place) == {MODEL: "3"}


@pytest.mark.parametrize(
    ("numbers", "end"),
    [((), 0), ((1,), 1), ((1, 2, 3), 3), ((1, 999), 1), ((50, 51, 999), 51), ((7, 150, 151), 151), ((3, 2, 9, 1), 3)],
)
def test_the_last_turn_is_the_end_of_the_line(numbers: tuple[int, ...], end: int) -> None:
    assert end_of_line(numbers) == end
