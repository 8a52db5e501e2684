"""After a crash at any event, nothing that opens the folder says what is not so, and nothing is stuck."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from tasks.custody.errors import Refused
from tasks.latest.history import history
from tasks.latest.rollback import RollbackRequest, rollback
from tests.crash.acts import SCENES
from tests.crash.disk import Disk, Image, rebuild
from tests.crash.points import crashed
from tests.support.holdings import FIRST, LOG, MODEL, SCORES, SECOND, Unheard, latest, snapshot, turn_for

PARTS = 120
"""Into how many cases the events of an act are divided."""


@pytest.mark.sample(1)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SCENES)
def test_nothing_false_nothing_stuck_nothing_proven_that_is_not_there(name: str, part: int, tmp_path: Path) -> None:
    scene = SCENES[name]
    told = crashed(scene.begin(tmp_path), scene.act, lambda number, _: number % PARTS == part)
    assert told.events
    assert not told.end.trouble, told.end.trouble
    assert not told.false, "\n".join(told.false)


def test_a_record_that_the_store_has_survives_a_power_loss(tmp_path: Path) -> None:
    """A regression: the names of its folders were not flushed, and the store refused the next run's record for ever."""
    scene, event = SCENES["evacuate"], "before fsync IR-"
    told = crashed(scene.begin(tmp_path), scene.act, lambda _, what: what.startswith(event) and "/.ended.json." in what)
    assert any("/.ended.json." in what for what in told.events)
    assert not told.false, "\n".join(told.false)


def after_each_event(folder: Path, act: str) -> Iterator[tuple[str, Image]]:
    """Promote or roll back in a store that is a folder, and yield what a crash leaves after each event."""
    folder.mkdir()
    store, found = DirectoryStore(folder), list[tuple[str, Image]]()
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    wish = snapshot(store, SECOND, model="2", scores="2")
    if act == "rollback":
        turn_for(store, wish)
    disk = Disk(folder, lambda event: found.extend([(f"{event}: lost", disk.lost()), (f"{event}: kept", disk.kept())]))
    with disk.watched():
        if act == "rollback":
            rollback(store, RollbackRequest("ana"), Unheard())
        else:
            turn_for(store, wish)
    yield from found


@pytest.mark.parametrize("act", ["promotion", "rollback"])
def test_latest_is_what_it_was_or_will_be_once_the_next_turn_is_over(act: str, tmp_path: Path) -> None:
    before, after = {MODEL: "1", LOG: "1"}, {MODEL: "2", LOG: "1", SCORES: "2"}
    for number, (event, image) in enumerate(after_each_event(tmp_path / "store", act)):
        rebuild(folder := tmp_path / str(number), image)
        store = DirectoryStore(folder)
        assert all(latest(store)[key] in {before.get(key), after.get(key)} for key in latest(store)), event
        with suppress(Refused):  # there is nothing to undo
            rollback(store, RollbackRequest("ana", 2, take_over=True), Unheard())
        assert latest(store) == before, event
        assert not history(store).open, event
