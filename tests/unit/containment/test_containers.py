"""Containers paused, ended and looked for: what a real engine shows seldom, with an engine in memory."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containers.stop import StoppingContainer, stop_containers
from tasks.containment.containment_check import prove_contained
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.containment.receipt import End
from tasks.custody.incident.description import leads_to
from tasks.host.container.membership import Container
from tasks.host.container.rehearsal import RehearsalEngine
from tasks.host.process.process import Listener
from tasks.host.rehearsal import RehearsalHost
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import containers_key, stopped_containers
from tests.support.memory_engine import ASKED, MemoryEngine, broken, container, engine_of, obey
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine

ONE, TWO = container(1), container(2)


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(containers=ASKED, grace_seconds=0.1)) as context:
        yield context


def test_paused_asked_and_ended_each_with_a_receipt(run: RunContext) -> None:
    engine = engine_of(run, ONE, replace(TWO, restart="always"))
    (first, second), trouble = WorkloadContainers(run).freeze()
    assert not trouble
    assert first.paused_at
    assert (first.identity, first.stood, first.denied, first.why) == (ONE.identity, False, "", ASKED[0])
    assert {each.state for each in engine.there.values()} == {"paused"}
    told = [each for each in run.log.entries() if each["action"] == "container paused"]
    assert [each["at"] for each in told] == [str(first.paused_at), str(second.paused_at)]
    receipts = stop_containers(run)
    assert [(each.end, each.exit_code, each.removed, each.reason) for each in receipts] == [
        (End.STOPPED, 0, False, "")
    ] * 2
    assert [[name for name, _ in each.signals] for each in receipts] == [["SIGTERM"]] * 2
    assert all(each.gone_at for each in receipts)
    assert sorted(act for act in engine.acts if act[0] == "forbid restart") == [("forbid restart", TWO.id)]
    assert kept_config(run.directory.path, second.identity)["Restart"] == "always"
    assert WorkloadContainers(run).tell_living() == ()


class OnTheHost(MemoryEngine):
    """Of containers on the host's network, whose ports an engine does not know."""

    def inspect(self, id_: str) -> dict[str, Any]:
        """What it takes to make it again, and what it runs."""
        about = super().inspect(id_)
        about["HostConfig"]["NetworkMode"] = "host"
        return {**about, "NetworkSettings": {"Ports": {}}, "Path": "/serve", "Args": [f"--of={id_}"]}


@pytest.mark.parametrize(("listening", "expected"), [([ONE.id], ONE), ([TWO.id], TWO), (["f" * 64], None), ([], None)])
def test_on_the_hosts_network_the_api_is_what_listened_on_its_port(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, listening: list[str], expected: Container | None
) -> None:
    """Whatever its command says: the pattern is that of a process, and matches none of these."""
    _, port = leads_to(run.workload.api_address)
    found = [Listener(0, process(number, container=id_)) for number, id_ in enumerate(listening)]
    monkeypatch.setattr(run.adapters.host, "owners", lambda asked: [*found, Listener(0)] if asked == port else [])
    run.adapters.engine = cast("Engine", OnTheHost(ONE, TWO))
    WorkloadContainers(run).freeze()
    api = WorkloadContainers(run).find_api(port)
    assert (api and api.identity) == (expected and expected.identity)


def test_one_that_is_deaf_is_killed_and_one_that_removes_itself_is_removed(run: RunContext) -> None:
    engine = engine_of(run, ONE, replace(TWO, auto_remove=True, restart="no"))
    engine.deaf = {ONE.id}
    WorkloadContainers(run).freeze()
    first, second = stop_containers(run)
    assert ([name for name, _ in first.signals], first.end, first.exit_code) == (
        ["SIGTERM", "SIGKILL"],
        End.KILLED,
        137,
    )
    assert [(each.end, each.removed) for each in (first, second)] == [(End.KILLED, False), (End.STOPPED, True)]


def test_under_policy_kill_nothing_is_asked(run: RunContext) -> None:
    run.run = replace(run.run, policy="kill")
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    (receipt,) = stop_containers(run)
    assert ([name for name, _ in receipt.signals], receipt.end) == (["SIGKILL"], End.KILLED)
    assert [act[2] for act in engine.acts if act[0] == "signal"] == ["SIGKILL"]


def test_one_that_the_engine_cannot_end_survives_and_is_ended_by_the_next_run(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    engine.before = broken("signal")
    (receipt,) = stop_containers(run)
    assert (receipt.end, receipt.gone_at, receipt.signals) == (End.SURVIVED, None, ())
    assert "an answer" in receipt.reason
    assert stopped_containers(run.state) == {}
    assert WorkloadContainers(run).tell_living() == (f"{ONE.summary} is paused ({ASKED[0]})",)
    engine.before = obey
    (again,) = stop_containers(run)
    assert again.end is End.STOPPED
    assert stop_containers(run) == (again,)


def test_one_that_the_engine_ended_although_it_did_not_say_so_is_no_survivor(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()

    def late(act: str, id_: str) -> None:
        if act == "signal":
            engine.end(id_, 3)
            broken("signal")(act, id_)

    engine.before = late
    (receipt,) = stop_containers(run)
    assert (receipt.end, receipt.exit_code) == (End.GONE, 3)
    assert receipt.gone_at


@pytest.mark.parametrize("begun", [True, False])
def test_one_that_has_ended_by_itself_is_gone_unless_a_run_was_ending_it(run: RunContext, begun: bool) -> None:  # noqa: FBT001
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    if begun:
        run.state.stopping_containers.write([ONE.identity])
    engine.end(ONE.id, 4)
    (receipt,) = stop_containers(run)
    assert (receipt.end, receipt.exit_code, receipt.gone_at) == (End.STOPPED if begun else End.GONE, 4, None)
    assert ("a run that died was stopping it" in receipt.reason) is begun
    assert run.state.stopping_containers.read() == []


def test_nobody_is_said_to_have_begun_an_end_unless_it_is_told(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    ((frozen,), _) = WorkloadContainers(run).freeze()
    engine.end(ONE.id, 4)
    receipt = StoppingContainer(run, frozen).stop(gently=False)
    assert (receipt.end, receipt.reason) == (End.GONE, "")


def test_one_that_was_started_again_is_another_and_is_not_ended_with_the_first(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    engine.change(ONE.id, identity=replace(ONE.identity, started_at="later"), state="running")
    (receipt,) = stop_containers(run)
    assert receipt.end is End.GONE
    assert not [act for act in engine.acts if act[0] == "signal"]
    assert WorkloadContainers(run).tell_living() == (f"{ONE.summary} is running ({ASKED[0]})",)


def test_one_that_was_paused_before_us_stood(run: RunContext) -> None:
    engine_of(run, replace(ONE, state="paused"))
    ((frozen,), _) = WorkloadContainers(run).freeze()
    assert frozen.stood
    assert frozen.paused_at
    ((again,), _) = WorkloadContainers(run).freeze()
    assert again.stood


def test_what_we_have_paused_does_not_stand_by_itself_in_a_later_run(run: RunContext) -> None:
    engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    ((again,), _) = WorkloadContainers(run).freeze()
    assert not again.stood


def test_one_that_we_have_paused_and_that_has_another_name_now_is_told(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    engine.change(ONE.id, image="renamed:1", name="other")
    assert WorkloadContainers(run).tell_living() == (f"{engine.there[ONE.id].summary} was paused by us and is paused",)


def test_one_that_we_have_paused_and_that_was_started_again_by_another_name_is_told(run: RunContext) -> None:
    """`docker rename` and `docker start`: neither the block's names nor the start that we know find it."""
    engine = engine_of(run, ONE)
    WorkloadContainers(run).freeze()
    stop_containers(run)
    later = replace(ONE.identity, started_at="later")
    engine.change(ONE.id, identity=later, image="renamed:1", name="other", state="running")
    told = f"{engine.there[ONE.id].summary} was paused by us and is running"
    assert WorkloadContainers(run).tell_living() == (told,)
    run.state.recovered_containers.write([later])
    assert WorkloadContainers(run).tell_living() == ()


def test_a_process_of_a_paused_container_is_told_where_the_engine_calls_that_ended(run: RunContext) -> None:
    engine = engine_of(run, ONE, TWO)
    WorkloadContainers(run).freeze()
    command, root = tuple(run.workload.api_command), str(run.directory.root)
    left, held = (process(each, command, cwd=root, container=container(each).id) for each in (1, 2))
    run.adapters.host = PaperHost(left, held, root=run.directory.root)
    engine.end(ONE.id, 0)

    def told() -> list[str]:
        return [line.partition(":")[0] for line in made(prove_contained.fn(run)).alive if "uvicorn" in line]

    assert told() == [str(left.pid)]
    engine.before = broken("get")
    assert told() == []
    assert [line for line in made(prove_contained.fn(run)).alive if "whether its containers run is not known" in line]


def test_in_a_dry_run_no_process_of_a_container_that_would_have_ended_is_left(small: SmallWorkload) -> None:
    one = process(1, tuple(small.api_command), cwd=str(small.root), container=ONE.id)
    with case_of(small.block(containers=ASKED), dry_run=True) as context:
        engine = engine_of(context, ONE)
        twin = context.adapters.host = RehearsalHost(PaperHost(one, root=small.root), context.log)
        context.adapters.engine = RehearsalEngine(context.adapters.engine, context.log, twin.containers)
        WorkloadContainers(context).freeze()
        stop_containers(context)
        assert not [line for line in made(prove_contained.fn(context)).alive if "uvicorn" in line]
    assert engine.there == {ONE.id: ONE}


def test_a_list_that_lags_behind_counts_no_container_that_has_ended(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    engine.listed = (ONE,)
    engine.end(ONE.id, 0)
    assert WorkloadContainers(run).tell_living() == ()


def test_an_engine_that_cannot_be_asked_proves_nothing(run: RunContext) -> None:
    engine = engine_of(run, ONE)
    engine.before = broken("list")
    everyone, trouble = WorkloadContainers(run).freeze()
    assert everyone == ()
    assert "an answer" in trouble
    assert [each["denied"] for each in run.log.entries() if each["action"] == "engine not asked"] == [trouble]
    (told,) = WorkloadContainers(run).tell_living()
    assert told.startswith("whether its containers run is not known: ")


def test_a_pause_that_is_denied_is_told_and_the_others_are_paused(run: RunContext) -> None:
    engine = engine_of(run, ONE, TWO)
    engine.before = broken("pause", ONE.id)
    (first, second), _ = WorkloadContainers(run).freeze()
    assert (first.denied, first.paused_at) == ("nothing", None)
    assert second.paused_at


def test_without_containers_in_the_block_no_engine_is_asked(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        engine_of(context, ONE).before = broken("list")
        assert WorkloadContainers(context).find() == []


def test_a_configuration_is_kept_as_it_was_at_the_first_look(run: RunContext) -> None:
    engine = engine_of(run, replace(ONE, restart="always"))
    WorkloadContainers(run).freeze()
    engine.change(ONE.id, restart="no", state="running")
    WorkloadContainers(run).freeze()
    (path,) = run.directory.path.glob("container-*.json")
    assert json.loads(path.read_text())["Restart"] == "always"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_cache_key_does_not_hang_on_the_order_of_containers() -> None:
    others = [ContainerIdentity("f" * 64, "t2"), ContainerIdentity("0123456789abcdef" * 4, "t1")]
    assert containers_key(others) == "0123456789ab.t1,ffffffffffff.t2"
