"""Containers that are started under the cordon, or come back after the stop."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.cli.status import status
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.uncordon import uncordon
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import End
from tasks.runtime.context import RunContext
from tests.support.containers import Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

COUNTER = ["python3", "counter.py"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def evacuate(context: RunContext) -> None:
    cordon.fn(context)
    freeze.fn(context)
    stop.fn(context)


@pytest.mark.whole
def test_a_container_that_is_started_during_the_cordon_is_paused_and_written_down(
    containers: Containers, small: SmallWorkload
) -> None:
    with case_of(containers.block(small, watch_seconds=0)) as context:
        evacuate(context)
        assert made(prove_contained.fn(context)).is_contained
        id_ = containers.run(COUNTER)
        wait_until(lambda: containers.state(id_) == "paused", what="the guard's pause")
        wait_until(lambda: lines(context.cordon_files.caught), what="the guard's note")
        (caught,) = lines(context.cordon_files.caught)
        assert (caught["container"]["id"], caught["role"]) == (id_, "container")
        assert not made(prove_contained.fn(context)).is_contained
        came = made(watch.fn(context))
        (receipt,) = came.containers
        assert (receipt.identity.id, receipt.end) == (id_, End.KILLED)
        assert [name for name, _ in receipt.signals] == ["SIGKILL"]
        logged = [entry for entry in context.log.entries() if entry["action"] == "caught"]
        contained = made(prove_contained.fn(context))
    assert logged[0]["object"] == id_
    assert contained.is_contained
    assert containers.state(id_) == "exited"


@pytest.mark.whole
def test_the_guard_leaves_a_container_that_a_run_thaws_to_the_run(containers: Containers, small: SmallWorkload) -> None:
    """Frozen anew in its grace it could not end by itself."""
    slow = "import signal, time; signal.signal(15, lambda *_: (time.sleep(2), exit(5))); print('up', flush=True)\n"
    containers.run(["python3", "-c", f"{slow}while True: time.sleep(0.05)"])
    with case_of(containers.block(small, grace_seconds=20)) as context:
        cordon.fn(context)
        wait_until(lambda: lines(context.cordon_files.caught), what="the guard's eye on it")
        frozen = made(freeze.fn(context))
        (receipt,) = made(stop.fn(context)).containers
        watch.fn(context)
        logged = [entry for entry in context.log.entries() if entry["action"] == "caught"]
    assert frozen.containers[0].paused_at
    assert (receipt.end, receipt.exit_code) == (End.STOPPED, 5)
    assert logged == []


@pytest.mark.soak
def test_status_tells_of_a_paused_newcomer_and_uncordon_ends_it(containers: Containers, small: SmallWorkload) -> None:
    block = containers.block(small, watch_seconds=0)
    with case_of(block) as context:
        evacuate(context)
        id_ = containers.run(COUNTER)
        wait_until(lambda: lines(context.cordon_files.caught), what="the guard's note")
        told = list(status(block, context.adapters.host))
        assert any(id_[:12] in line and line.endswith("paused") for line in told)
        assert "workload  nothing of it runs" not in told
        done = uncordon(context.adapters.host, context.adapters.scheduler, block, context.log, context.adapters.engine)
        assert any(id_[:12] in each for each in done.ended)
        wait_until(lambda: containers.state(id_) == "exited", what="its end")
        assert "workload  nothing of it runs" in list(status(block, context.adapters.host))


def test_status_says_that_an_engine_cannot_be_asked(small: SmallWorkload, tmp_path: Path) -> None:
    block = small.block(containers=["image=api"], docker_host=f"unix://{tmp_path}/none.sock")
    with case_of(block) as context:
        assert any("whether its containers run is not known" in line for line in status(block, context.adapters.host))


@pytest.mark.soak
def test_what_somebody_starts_again_is_ended_again(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(COUNTER)
    with case_of(containers.block(small, watch_seconds=0)) as context:
        evacuate(context)
        containers.client.start(id_)
        came = made(watch.fn(context))
        assert came.is_complete
        assert made(prove_contained.fn(context)).is_contained
    assert came.containers[0].end is End.KILLED
    assert containers.state(id_) == "exited"


@pytest.mark.whole
def test_what_an_orchestrator_brings_twice_is_left_paused_and_told(
    containers: Containers, small: SmallWorkload
) -> None:
    service = {"com.docker.swarm.service.name": "portfolio"}
    with case_of(containers.block(small, watch_seconds=0)) as context:
        evacuate(context)
        first = containers.run(COUNTER, labels=service)
        watch.fn(context)
        second = containers.run(COUNTER, labels=service)
        third = containers.run(COUNTER, labels=service)
        came = made(watch.fn(context))
        contained = made(prove_contained.fn(context))
    assert containers.state(first) == "exited"
    assert [containers.state(second), containers.state(third)] == ["paused", "paused"], "one came in the watch before"
    assert came.standing == ("swarm service portfolio",)
    assert "brought by swarm service portfolio, which still stands" in came.summary
    assert not contained.is_contained


def test_a_guard_without_an_engine_still_watches_processes(small: SmallWorkload, tmp_path: Path) -> None:
    block = small.block(containers=["image=api"], docker_host=f"unix://{tmp_path}/none.sock")
    with case_of(block) as context:
        cordon.fn(context)
        small.start(WORKERS="0")
        wait_until(lambda: lines(context.cordon_files.caught), what="the guard's note")
        assert lines(context.cordon_files.caught)[0]["role"] == "training"


def test_a_block_that_names_other_containers_gets_another_guard(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        first = made(cordon.fn(context)).guard
        context.workload = small.block(containers=["image=api"], docker_host="unix:///nowhere.sock")
        cordon.fn(context)
        wait_until(
            lambda: context.adapters.host.guard(context.cordon_files.marker) not in {None, first}, what="the new guard"
        )
        old = context.adapters.host.get_process(first)
    assert old is None or not old.alive
