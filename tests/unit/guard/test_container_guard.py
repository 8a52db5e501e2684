"""The guard's watch on the engine: whom it pauses, whom it leaves, and what it writes down of a newcomer."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tasks.custody.errors import ContainerGone, EngineError
from tasks.guard import containers
from tasks.guard.containers import ContainerGuard
from tasks.host.container.membership import Container
from tasks.host.guard_config import GuardConfig
from tasks.host.process.matcher import WorkloadDescription
from tasks.incident.run_lock import take_ownership
from tests.support.memory_engine import ASKED, MemoryEngine, container, obey
from tests.support.paper_clock import PaperClock

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import DockerEngine

ONE, TWO = container(1), container(2)


class Watch:
    """A guard of a folder, whose journals are there, and what it was told to write down."""

    def __init__(self, folder: Path, *there: Container) -> None:
        """Nothing is known of anybody."""
        self.frozen, self.started = folder / "frozen.json", folder / "started.json"
        self.notes: list[dict[str, Any]] = []
        orders = GuardConfig(
            incident="IR-x",
            reason="why",
            since="now",
            lock="/l",
            marker="/m",
            caught="/c",
            known=(),
            workload=WorkloadDescription("/r", ()),
            spared=(),
            containers=tuple(ASKED),
            known_containers=(str(self.frozen),),
            started_containers=(str(self.started),),
            evidence=str(folder),
        )
        self.guard = ContainerGuard(orders, self.notes.append)
        self.engine = MemoryEngine(*there)
        self.guard.engine = cast("DockerEngine", self.engine)

    def states(self) -> list[str]:
        """How they stand after a look."""
        self.guard.watch()
        return [each.state for each in self.engine.there.values()]


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Watch]:
    return lambda *there: Watch(tmp_path, *there)


def keep(path: Path, *rows: Container) -> None:
    """As a run writes its journals: for itself alone."""
    path.write_text(json.dumps([{"identity": asdict(each.identity)} for each in rows]))
    path.chmod(0o600)


def test_a_newcomer_is_paused_again_and_again_and_told_once(watch: Callable[..., Watch]) -> None:
    post = watch(ONE)
    assert post.states() == ["paused"]
    post.engine.change(ONE.id, state="running")
    assert post.states() == ["paused"]
    (note,) = post.notes
    assert note["container"] == {"id": ONE.id, "started_at": ONE.identity.started_at}
    assert (note["stood"], note["denied"], note["why"]) == (False, "", ASKED[0])


def test_one_that_stands_already_is_told_and_not_paused(watch: Callable[..., Watch]) -> None:
    post = watch(replace(ONE, state="paused"))
    assert post.states() == ["paused"]
    assert post.engine.acts == []
    assert post.notes[0]["stood"] is True


def test_what_a_recovery_has_started_is_left_alone(watch: Callable[..., Watch]) -> None:
    post = watch(ONE, TWO)
    keep(post.started, TWO)
    assert post.states() == ["paused", "running"]
    assert len(post.notes) == 1


def test_what_the_incident_has_paused_is_paused_again_only_while_no_run_is_at_work(
    watch: Callable[..., Watch], tmp_path: Path
) -> None:
    post = watch(ONE)
    keep(post.frozen, ONE)
    post.engine.change(ONE.id, state="paused")
    assert post.states() == ["paused"]
    assert post.notes == []
    post.engine.change(ONE.id, state="running")
    descriptor = take_ownership(tmp_path)
    assert descriptor is not None
    try:
        assert post.states() == ["running"]
    finally:
        os.close(descriptor)
    assert post.states() == ["paused"]


def test_a_pause_that_is_denied_is_told_and_one_that_is_gone_is_nobody(watch: Callable[..., Watch]) -> None:
    post = watch(ONE, TWO)

    def refuse(act: str, id_: str) -> None:
        if act == "pause":
            raise (EngineError if id_ == ONE.id else ContainerGone)("a pause", "no", "It runs.", "Look at it.")

    post.engine.before = refuse
    assert post.states() == ["running", "running"]
    assert [(each["container"]["id"], each["denied"]) for each in post.notes] == [(ONE.id, "no")]
    post.engine.before = obey
    assert post.states() == ["paused", "paused"]


def test_the_watch_goes_on_when_the_engine_does_not_answer(
    watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "time", clock := PaperClock())
    rounds = iter(range(2))
    monkeypatch.setattr(clock, "sleep", lambda _: next(rounds))
    post, answers = watch(ONE), iter([EngineError("an answer", "none", "It runs.", "Wait."), None, None])

    def answer(act: str, _: str) -> None:
        if act == "list" and (error := next(answers)):
            raise error

    post.engine.before = answer
    with pytest.raises(StopIteration):
        post.guard.stand()
    assert post.engine.there[ONE.id].state == "paused"


@pytest.mark.parametrize(
    ("took", "fails", "pause"), [(0.01, False, 0.5), (0.05, False, 0.95), (5.0, False, 2.0), (5.0, True, 0.5)]
)
def test_it_looks_again_soon_however_long_the_engine_took(
    watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch, *, took: float, fails: bool, pause: float
) -> None:
    """An engine that had hung for 5 s was asked again after 95."""
    monkeypatch.setattr(containers, "time", clock := PaperClock(0.0))
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise InterruptedError

    def answer(act: str, _: str) -> None:
        if act == "list":
            clock.now += took
            if fails:
                raise EngineError("an answer", "none", "It runs.", "Wait.")

    monkeypatch.setattr(clock, "sleep", sleep)
    post = watch()
    post.engine.before = answer
    with pytest.raises(InterruptedError):
        post.guard.stand()
    assert pauses == [pytest.approx(pause)]


def test_it_asks_the_engine_of_its_orders(tmp_path: Path) -> None:
    post = Watch(tmp_path)
    orders = replace(post.guard.orders, docker_host="unix:///of/its/own.sock")
    assert ContainerGuard(orders, post.notes.append).engine.place == "unix:///of/its/own.sock"
