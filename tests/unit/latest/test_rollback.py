"""latest/ brought back to what it was, by one command, from what the turns name."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from blocks.port import Store
from flows.cli import run
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import begun_key
from tasks.custody.store.latest import Promotion
from tasks.latest.history import history
from tasks.latest.rollback import RollbackRequest, lower, rollback
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
    snapshot,
    turn_for,
)
from tests.support.memory_store import MemoryStore
from tests.unit.latest.test_turns import Killed, KilledAt


def back(store: Store, before: int = 0, *, take_over: bool = False) -> Promotion:
    return rollback(store, RollbackRequest("root", before, take_over), Unheard())


@pytest.mark.slow
def test_the_last_turn_is_undone_and_can_be_done_again(place: Store) -> None:
    turn_for(place, snapshot(place, FIRST, model="1", log="1"))
    turn_for(place, snapshot(place, SECOND, model="2", scores="2"))
    assert back(place).summary == "turn 3: 1 replace, 1 keep, 1 delete"
    assert latest(place) == {MODEL: "1", LOG: "1"}
    assert back(place).is_complete
    assert latest(place) == {MODEL: "2", SCORES: "2", LOG: "1"}


@pytest.mark.slow
def test_any_earlier_turn_can_be_undone_with_all_that_came_after(place: Store) -> None:
    overwrite(place, MODEL, "by hand")
    overwrite(place, LOG, "by hand")
    for incident, content in ((FIRST, "1"), (SECOND, "2"), (THIRD, "3")):
        turn_for(place, snapshot(place, incident, model=content, **({"log": "3"} if content == "3" else {})))
    back(place, 2)
    assert latest(place) == {MODEL: "1", LOG: "by hand"}
    back(place, 1)
    assert latest(place) == {MODEL: "by hand", LOG: "by hand"}
    assert back(place, 1).summary == "latest/ is what it was before turn 1; nothing was done"


def test_a_promotion_that_was_broken_off_is_undone_once_its_run_is_known_to_be_dead() -> None:
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1"))
    wish = snapshot(store, SECOND, model="2", scores="2")
    with pytest.raises(Killed):
        change_latest(store, wish, KilledAt("promoted", MODEL), now=datetime.now(UTC))
    with pytest.raises(LatestBusy, match="turn 2"):
        back(store)
    back(store, take_over=True)
    assert latest(store) == {MODEL: "1"}
    assert not history(store).open


def test_a_promotion_that_was_broken_off_before_it_changed_anything_does_not_come_back_after_its_rollback() -> None:
    """A regression: nothing was to be undone, so its turn stayed open, and the next one completed it."""
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1"))
    with pytest.raises(Killed):
        change_latest(
            store,
            snapshot(store, SECOND, model="2", scores="2"),
            KilledAt("turn begun", begun_key(2)),
            now=datetime.now(UTC),
        )
    back(store, take_over=True)
    assert not history(store).open
    turn_for(store, snapshot(store, THIRD, log="3"))
    assert latest(store) == {MODEL: "1", LOG: "3"}


def test_what_nobody_holds_any_more_is_named_and_nothing_is_touched() -> None:
    store = MemoryStore()
    wish = snapshot(store, FIRST, model="1", log="1")
    turn_for(store, wish)
    turn_for(store, snapshot(store, SECOND, model="2", log="2"))
    del store._objects[wish.wanted[MODEL].key]
    with pytest.raises(Refused, match=f"nobody who holds {MODEL}\\."):
        back(store)
    assert latest(store) == {MODEL: "2", LOG: "2"}
    assert history(store).number == 2


def test_what_a_person_put_there_since_is_not_lost_either() -> None:
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1"))
    turn_for(store, snapshot(store, SECOND, model="2"))
    overwrite(store, MODEL, "by hand")
    overwrite(store, SCORES, "by hand")
    back(store)
    assert latest(store) == {MODEL: "1", SCORES: "by hand"}
    back(store)
    assert latest(store) == {MODEL: "by hand", SCORES: "by hand"}


@pytest.mark.parametrize("turn", [-1, 1, 2])
def test_a_turn_that_never_was_is_refused(turn: int) -> None:
    with pytest.raises(Refused, match="one of the turns"):
        back(MemoryStore(), turn)


def test_by_hand_it_shows_its_plan_does_it_and_says_what_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (file := tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{folder}"\n')
    store = DirectoryStore(folder)
    turn_for(store, snapshot(store, FIRST, model="1"), now=NOW)
    turn_for(store, snapshot(store, SECOND, model="2", log="2"), now=NOW)
    for arguments, code in ([str(file), "--dry-run"], 0), ([str(file)], 0), ([str(file), "9"], 2):
        assert run(["rollback", *arguments]) == code
    told = capsys.readouterr()
    assert re.findall(r" (\w+)  latest", told.out) == ["delete", "replace", "replace", "delete"]
    assert "turn 3: 1 replace, 1 delete" in told.out
    assert "evacuation rollback" in told.out
    assert "one of the turns 1 to 3 of latest/; got 9" in told.err
    assert latest(store) == {MODEL: "1"}
    assert b"by hand" in store.read(begun_key(3))


FUTURE, LATER = "IR-20990101T000000Z", "IR-20990202T000000Z"


def test_what_an_incident_from_the_future_has_raised_is_lowered_and_the_turn_tells_who_and_from_what(
    place: Store,
) -> None:
    for incident in (FIRST, FUTURE, LATER):
        turn_for(place, snapshot(place, incident, model=incident))
    before = latest(place)
    lower(place, RollbackRequest("root@host, by hand"), Unheard())
    turn = history(place).last
    assert turn
    assert (turn.lowered, turn.newest, turn.by, turn.incident) == (LATER, FIRST, "root@host, by hand", "")
    assert latest(place) == before
    turn_for(place, snapshot(place, SECOND, model="2"))
    assert (latest(place), history(place).last.newest) == ({MODEL: "2"}, SECOND)  # type: ignore[union-attr]


def test_without_anything_from_the_future_only_a_turn_that_is_named_is_lowered() -> None:
    store = MemoryStore()
    with pytest.raises(Refused, match="later than one before"):
        lower(store, RollbackRequest("root"), Unheard())
    for incident in (FIRST, SECOND):
        turn_for(store, snapshot(store, incident, model=incident))
    with pytest.raises(Refused, match="give TURN"):
        lower(store, RollbackRequest("root"), Unheard())
    with pytest.raises(Refused, match="one of the turns 1 to 2"):
        lower(store, RollbackRequest("root", before=3), Unheard())
    lower(store, RollbackRequest("root", before=2), Unheard())
    assert history(store).last.newest == FIRST  # type: ignore[union-attr]
    lower(store, RollbackRequest("root", before=1), Unheard())
    assert history(store).last.newest == ""  # type: ignore[union-attr]


def test_a_promotion_from_the_future_that_was_broken_off_is_done_and_lowered() -> None:
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1"))
    with pytest.raises(Killed):
        change_latest(store, snapshot(store, FUTURE, model="2"), KilledAt("promoted", MODEL), now=datetime.now(UTC))
    with pytest.raises(LatestBusy):
        lower(store, RollbackRequest("root"), Unheard())
    lower(store, RollbackRequest("root", take_over=True), Unheard())
    assert history(store).last.newest == FIRST  # type: ignore[union-attr]
    assert not history(store).open


def test_by_hand_lowering_says_from_what_to_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder := tmp_path / "store").mkdir()
    (file := tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{folder}"\n')
    for incident in (FIRST, FUTURE):
        turn_for(DirectoryStore(folder), snapshot(DirectoryStore(folder), incident, model=incident))
    for arguments, code in ([str(file), "--dry-run"], 0), ([str(file)], 0), ([str(file)], 2):
        assert run(["rollback", *arguments, "--newest-only"]) == code
    told = capsys.readouterr()
    assert told.out.count(f"from {FUTURE} to {FIRST}") == 2
    assert "nothing was done" in told.out.splitlines()[0]
    assert "later than one before it; got" in told.err
