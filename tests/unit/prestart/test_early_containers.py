"""Containers that a start pauses with the processes: written down before, given back, or taken over as done."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.cli.uncordon import let_go
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.custody.containment.identity import ContainerIdentity
from tasks.host.host import LinuxHost
from tasks.incident.layout import EARLY, FROZEN_CONTAINERS
from tasks.incident.run_lock import give_up_ownership
from tasks.prestart.freeze import freeze_described
from tasks.prestart.hand_over import VARIABLE, HandOver, receive
from tasks.prestart.journal import EarlyFreeze, read_early, take_over, thaw_again, write_containers
from tests.support.memory_engine import ASKED, MemoryEngine, broken, container, engine_of, obey
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload

ONE, TWO, OTHER = container(1), container(2), replace(container(3), image="other:1")
AT = datetime(2026, 1, 2, tzinfo=UTC)


class KilledError(BaseException):
    """The end of a process at this point: nothing of it runs on."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> MemoryEngine:
    """It answers at every address."""
    engine = MemoryEngine(ONE, TWO, OTHER)
    for module in ("prestart.containers", "host.container.docker_engine", "cli.uncordon"):
        monkeypatch.setattr(f"tasks.{module}.DockerEngine", lambda *_: engine)
    return engine


@pytest.fixture
def path(small: SmallWorkload) -> Iterator[Path]:
    """The journal; its folder's lock is free afterwards."""
    base = small.block().evidence
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield base / EARLY
    give_up_ownership(base)


def start(path: Path, small: SmallWorkload, *entries: str) -> EarlyFreeze:
    fields = {"root": str(small.root), "evidence_dir": str(path.parent), "containers": [*entries] or ASKED}
    early = freeze_described(fields)
    assert early
    return early


def states(engine: MemoryEngine) -> list[str]:
    return [each.state for each in engine.there.values()]


def test_who_runs_is_paused_and_a_refused_run_lets_go_of_it_and_of_nobody_else(
    path: Path, small: SmallWorkload, engine: MemoryEngine
) -> None:
    engine.change(TWO.id, state="paused")
    early = start(path, small)
    assert states(engine) == ["paused", "paused", "running"]
    assert early.containers == (ONE.identity,)
    assert read_early(path).containers.keys() == {ONE.identity}
    assert thaw_again(early) == (ONE.identity,)
    assert states(engine) == ["running", "paused", "running"]
    assert not path.exists()


def test_one_between_two_starts_is_left_to_the_run(path: Path, small: SmallWorkload, engine: MemoryEngine) -> None:
    engine.change(ONE.id, state="restarting")
    assert start(path, small).containers == (TWO.identity,)
    assert states(engine) == ["restarting", "paused", "running"]


def test_they_are_written_down_before_they_are_paused(path: Path, small: SmallWorkload, engine: MemoryEngine) -> None:
    seen = list[set[str]]()

    def look(act: str, _: str) -> None:
        if act == "pause":
            seen.append({each.id for each in read_early(path).containers})

    engine.before = look
    start(path, small)
    assert seen == [{ONE.id, TWO.id}] * 2


@pytest.mark.parametrize("way", ["uncordon", "another start", "thaw of an incident"])
@pytest.mark.parametrize("act", ["pause", "after the first"])
def test_whom_a_start_had_paused_before_it_was_killed_is_known(
    path: Path, small: SmallWorkload, engine: MemoryEngine, act: str, way: str
) -> None:
    def kill(what: str, id_: str) -> None:
        if what == "pause" and (act == "pause" or id_ == TWO.id):
            raise KilledError

    engine.before = kill
    with pytest.raises(KilledError):
        start(path, small)
    engine.before = obey
    give_up_ownership(path.parent)
    if way == "another start":
        thaw_again(start(path, small))
        assert (engine.there[ONE.id].state, engine.there[TWO.id].state) == (
            "running" if act == "pause" else "paused",
            "running",
        )
    if way == "thaw of an incident":
        with case_of(small.block(containers=ASKED)) as run:
            run.adapters.engine = engine  # type: ignore[assignment]
            assert not made(thaw.fn(run)).left
    else:
        lines = [*let_go(small.block(containers=ASKED), LinuxHost(root=small.root))]
        is_resumed = way != "another start" or act != "pause"  # else the other start has taken both in hand
        assert any(line.startswith("resumed, a run that died before it began") for line in lines) is is_resumed, lines
    assert states(engine) == ["running"] * 3
    assert not path.exists()


def test_the_runs_own_freeze_finds_them_done_and_its_thaw_gives_them_back(
    path: Path, small: SmallWorkload, engine: MemoryEngine
) -> None:
    early = start(path, small)
    times, acts = read_early(path).containers, len(engine.acts)
    give_up_ownership(path.parent)
    with case_of(small.block(containers=ASKED)) as run:
        engine_of(run).there = engine.there
        frozen = made(freeze.fn(run)).containers
        assert [(each.identity, each.stood, each.denied) for each in frozen] == [
            (ONE.identity, False, ""),
            (TWO.identity, False, ""),
        ]
        assert {each.identity: each.paused_at for each in frozen} == times
        assert not path.exists()
        thaw_again(early)
        assert states(engine) == ["paused", "paused", "running"], "they are the incident's now"
        assert made(thaw.fn(run)).thawed == (ONE.summary, TWO.summary)
    assert len(engine.acts) == acts
    assert states(engine) == ["running"] * 3


def test_one_that_was_resumed_meanwhile_is_paused_again_and_its_time_is_new(
    path: Path, small: SmallWorkload, engine: MemoryEngine
) -> None:
    start(path, small)
    before = read_early(path).containers[ONE.identity]
    engine.change(ONE.id, state="running")
    give_up_ownership(path.parent)
    with case_of(small.block(containers=ASKED)) as run:
        engine_of(run).there = engine.there
        first, _ = made(freeze.fn(run)).containers
    assert first.paused_at > before
    assert states(engine) == ["paused", "paused", "running"]


def test_what_the_block_does_not_name_any_more_is_resumed_by_the_run_and_an_engine_that_fails_changes_nothing(
    path: Path, small: SmallWorkload, engine: MemoryEngine
) -> None:
    start(path, small, *ASKED, "image=other:1")
    give_up_ownership(path.parent)

    with case_of(small.block(containers=ASKED)) as run:
        own = engine_of(run)
        own.there, own.before = engine.there, broken("list")
        assert made(freeze.fn(run)).engine
        assert (states(engine), len(read_early(path).containers)) == (["paused"] * 3, 3)
        own.before = obey
        assert made(freeze.fn(run)).is_complete
    assert states(engine) == ["paused", "paused", "running"]
    assert not path.exists()


@pytest.mark.parametrize(("word", "state"), [("UNVERIFIED", "paused"), ("THAWED", "running")])
def test_what_an_incident_holds_is_paused_again_and_stays_so_if_the_run_is_refused(
    path: Path, small: SmallWorkload, engine: MemoryEngine, word: str, state: str
) -> None:
    home = path.parent / INCIDENT
    (home / "record/001").mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    (home / "record/001/closing.json").write_text(json.dumps({"verdict": word}))
    (home / FROZEN_CONTAINERS).write_text(json.dumps([{"identity": vars(ONE.identity)}]))
    thaw_again(start(path, small))
    assert states(engine) == [state, "running", "running"]


@pytest.mark.parametrize("act", ["list", "pause"])
def test_an_engine_that_fails_is_left_to_the_run(
    path: Path, small: SmallWorkload, engine: MemoryEngine, capsys: pytest.CaptureFixture[str], act: str
) -> None:
    engine.before = broken(act)
    thaw_again(start(path, small))
    assert "not all containers were paused before the start of the run" in capsys.readouterr().err
    assert states(engine) == ["running"] * 3
    assert not path.exists()


def test_nothing_is_paused_that_cannot_be_written_down(
    path: Path, small: SmallWorkload, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("tasks.prestart.journal.write_whole", full)
    assert start(path, small).containers == ()
    assert states(engine) == ["running"] * 3


def test_the_time_of_all_pauses_together_is_limited(
    path: Path, small: SmallWorkload, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.prestart.containers._PAUSE_SECONDS", -1.0)
    start(path, small)
    assert states(engine) == ["running"] * 3


def test_they_pass_from_the_worker_to_its_run(tmp_path: Path) -> None:
    path, one = tmp_path / EARLY, ContainerIdentity("a" * 64, "then")
    write_containers(path, {one: AT})
    early = EarlyFreeze(path, (), containers=(one,), docker_host="unix:///engine.sock")
    hand_over = HandOver({}, early)
    facts, taken = receive({VARIABLE: hand_over.name})
    hand_over.close()
    assert (facts, taken) == ({}, early)


def test_a_journal_is_taken_over_in_two_parts(tmp_path: Path) -> None:
    """A run that dies between the freeze of processes and that of containers would have left them without a word."""
    path, one = tmp_path / EARLY, ContainerIdentity("a" * 64, "then")
    write_containers(path, {one: AT})
    take_over(path)
    assert read_early(path).containers == {one: AT}
    write_containers(path, {})
    assert not path.exists()


def test_an_engine_that_cannot_resume_keeps_it_written_down(
    path: Path, small: SmallWorkload, engine: MemoryEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    early = start(path, small)
    engine.before = broken("unpause", ONE.id)
    thaw_again(early)
    assert states(engine) == ["paused", "running", "running"]
    assert read_early(path).containers.keys() == {ONE.identity}
    assert f"container {ONE.id[:12]} stays paused" in capsys.readouterr().err


def test_a_later_life_of_a_container_is_not_the_one_that_was_paused(
    path: Path, small: SmallWorkload, engine: MemoryEngine
) -> None:
    early = start(path, small)
    later = replace(ONE, identity=replace(ONE.identity, started_at="2027-01-01T00:00:00Z"), state="paused")
    engine.there[ONE.id] = later
    thaw_again(early)
    assert states(engine) == ["paused", "running", "running"]
    assert not path.exists()
