"""Containers let go: who runs again, who stays as it was found, and what a person has to do by hand."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containers.watch import ContainerReturns
from tasks.containment.release.thaw import thaw
from tasks.containment.release.uncordon import uncordon
from tasks.custody.containment.receipt import End
from tasks.custody.containment.thaw import Thawed
from tasks.custody.errors import EngineError
from tasks.host.container.membership import Container
from tasks.runtime.context import RunContext
from tests.support.memory_engine import ASKED, Hook, container, engine_of, obey
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

ONE, TWO, THREE = container(1), container(2), container(3)


def started(each: Container, at: datetime) -> Container:
    return replace(each, identity=replace(each.identity, started_at=f"{at:%Y-%m-%dT%H:%M:%S.%f}789Z"))


def thawed(run: RunContext) -> Thawed:
    result: Thawed = made(thaw.fn(run))
    return result


def test_who_ran_goes_on_and_who_stood_before_us_stays(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, ONE, replace(TWO, state="paused"))
        WorkloadContainers(run).freeze()
        result = thawed(run)
    assert (result.thawed, result.stood) == ((ONE.summary,), (TWO.summary,))
    assert (result.gone, result.left) == ((), ())
    assert [each.state for each in engine.there.values()] == ["running", "paused"]


def refusing(refused: str, of: str = "") -> Hook:
    """An engine that does not do one act, of one container or of any."""

    def refuse(act: str, id_: str) -> None:
        if act == refused and of in {"", id_}:
            raise EngineError("it to be done", "no", "It was not.", "Look at it.")

    return refuse


def test_one_that_has_ended_is_told_and_one_between_two_starts_is_a_persons_to_start(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, ONE, replace(TWO, state="restarting", restart="always"), THREE)
        engine.before = refusing("pause", THREE.id)
        WorkloadContainers(run).freeze()
        engine.before = obey
        assert engine.there[TWO.id].state == "exited"
        for each in (ONE, THREE):
            engine.end(each.id, 0)
        result = thawed(run)
    hint = ", between two starts: start it by hand"
    assert result.gone == (ONE.summary, f"{TWO.summary}{hint}", THREE.summary)
    assert (engine.there[TWO.id].restart, result.left) == ("always", ())
    assert result.thawed == ()


def test_a_restart_policy_that_the_engine_does_not_give_back_is_told(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, replace(ONE, state="restarting", restart="always"))
        WorkloadContainers(run).freeze()
        engine.before = refusing("allow restart")
        (told,) = thawed(run).left
        assert told.startswith(f"not restored: that container {ONE.id[:12]} starts by itself as before (always): ")
        engine.before = obey
        assert (thawed(run).left, engine.there[ONE.id].restart) == ((), "always")


def test_one_that_the_engine_does_not_let_go_is_told(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, ONE)
        WorkloadContainers(run).freeze()
        engine.before = refusing("unpause")
        (told,) = thawed(run).left
    assert told.startswith(f"{ONE.summary} stays paused: ")


@pytest.mark.parametrize("earlier", [timedelta(), timedelta(days=1)], ids=["this incident's", "an earlier one's"])
def test_what_a_guard_has_caught_goes_on_too(small: SmallWorkload, earlier: timedelta) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, replace(ONE, state="paused"), replace(TWO, state="paused"))
        at = (datetime.now(UTC) - earlier).isoformat()
        rows = [{"at": at, "container": asdict(each.identity), "stood": each is TWO} for each in (ONE, TWO)]
        run.cordon_files.caught.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        run.cordon_files.caught.chmod(0o600)
        result = thawed(run)
    assert (result.thawed, result.stood) == ((f"container {ONE.id[:12]}",), (f"container {TWO.id[:12]}",))
    assert [each.state for each in engine.there.values()] == ["running", "paused"]


def test_what_an_earlier_incident_has_paused_goes_on_and_what_stood_before_that_stays(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run, ONE, replace(TWO, state="paused"))
        WorkloadContainers(run).freeze()
    with case_of(small.block(containers=ASKED), incident="IR-20260103T030405Z") as run:
        engine = engine_of(run, *engine.there.values())
        WorkloadContainers(run).freeze()
        result = thawed(run)
    assert (result.thawed, result.stood) == ((ONE.summary,), (TWO.summary,))
    assert [each.state for each in engine.there.values()] == ["running", "paused"]


def test_nothing_comes_back_where_no_containers_are_named(small: SmallWorkload) -> None:
    with case_of(small.block()) as run:
        assert ContainerReturns(run).look() is False


def test_an_engine_that_cannot_be_asked_brings_nothing_back_and_is_written_down(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:

        def silent(*_: str) -> None:
            raise EngineError("an answer", "none", "It is not known.", "Look at it.")

        engine_of(run, ONE).before = silent
        assert ContainerReturns(run).look() is False
        assert "engine not asked" in {each["action"] for each in run.log.entries()}


@pytest.mark.parametrize("label", ["com.docker.swarm.service.name", ""])
def test_what_comes_back_is_ended_once_and_what_its_source_brings_twice_stays_paused(
    small: SmallWorkload, label: str
) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        engine = engine_of(run)
        returns = ContainerReturns(run)
        for each in (started(ONE, run.incident.opened_at), started(TWO, run.incident.opened_at)):
            engine.there[each.id] = replace(each, labels={label: "web"} if label else {})
            returns._next = 0.0
            assert returns.look()
        returns._next = 0.0
        assert not returns.look()
        assert [each.end for each in returns.found.values()] == [End.KILLED, End.HELD if label else End.KILLED]
        assert list(returns.standing) == (["swarm service web"] if label else [])
        assert engine.there[TWO.id].state == ("paused" if label else "exited")


def test_what_ran_before_the_incident_and_is_first_seen_by_the_watch_is_paused_and_not_ended(
    small: SmallWorkload,
) -> None:
    """The engine had not answered at the freeze: it was killed unseen, and told as one that had come back."""
    with case_of(small.block(containers=ASKED)) as run:
        old = started(ONE, run.incident.opened_at - timedelta(seconds=1))
        engine = engine_of(run, old)
        returns = ContainerReturns(run)
        assert returns.look()
        (receipt,) = returns.found.values()
        assert (receipt.end, receipt.signals, engine.there[ONE.id].state) == (End.HELD, (), "paused")
        assert receipt.reason.startswith("it ran before the incident")
        assert not returns.standing
        WorkloadContainers(run).freeze()
        assert [each.identity for each in run.state.frozen_containers.read()] == [old.identity]
        assert ContainerReturns(run).found == {}


@pytest.mark.parametrize(("after", "ended"), [(-1, False), (0, True), (1, True)], ids=["before", "with", "after"])
@pytest.mark.parametrize("stood", [True, False])
def test_uncordon_ends_the_containers_that_were_started_under_the_cordon_alone(
    small: SmallWorkload, *, after: int, ended: bool, stood: bool
) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        since = run.incident.opened_at
        one = replace(started(ONE, since + timedelta(seconds=after)), state="paused")
        engine = engine_of(run, one)
        run.cordon_files.marker.write_text(json.dumps({"since": since.isoformat()}))
        run.cordon_files.caught.write_text(json.dumps({"container": asdict(one.identity), "stood": stood}))
        run.cordon_files.caught.chmod(0o600)
        done = uncordon(run.adapters.host, run.adapters.scheduler, run.workload, run.log, run.adapters.engine)
    assert done.ended == ((one.summary,) if ended else ())
    assert engine.there[ONE.id].state == ("exited" if ended else "paused")
    assert [f"docker unpause {ONE.id}" in each for each in done.remaining] == [True] * (not ended)


def test_without_a_marker_that_says_when_the_cordon_began_no_container_is_ended(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        one = replace(started(ONE, datetime.now(UTC)), state="paused")
        engine = engine_of(run, one)
        run.cordon_files.caught.write_text(json.dumps({"container": asdict(one.identity)}))
        run.cordon_files.caught.chmod(0o600)
        done = uncordon(run.adapters.host, run.adapters.scheduler, run.workload, run.log, run.adapters.engine)
    assert (done.ended, engine.there[ONE.id].state, len(done.remaining)) == ((), "paused", 1)
