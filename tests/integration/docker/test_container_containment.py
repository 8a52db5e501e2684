"""§2, §3 for containers on a real engine: paused, stopped with a receipt each, proven to be gone; never by pid."""

import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.containment.stop import stop
from tasks.custody.containment.receipt import Containment, End, Freeze, Stop
from tasks.custody.incident.description import API
from tasks.host.process.table import read_process
from tasks.record.dry_run_plan import plan
from tasks.runtime.context import RunContext
from tests.support.containers import API_COMMAND, Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, free_port, wait_until

COUNTER = ["python3", "counter.py"]


@contextmanager
def evacuated(context: RunContext) -> Iterator[tuple[Freeze, Stop, Containment]]:
    """Cordon, freeze, stop, check."""
    cordon.fn(context)
    yield made(freeze.fn(context)), made(stop.fn(context)), made(prove_contained.fn(context))


def in_the_root(containers: Containers, small: SmallWorkload) -> str:
    """An API in a container that works in the root, of which a part is mounted."""
    paths, mount = {"PYTHONPATH": "/app"}, f"{small.root / 'src'}:/mounted"
    return containers.run(API_COMMAND, working_dir="/mounted", environment=paths, binds=[mount])


def test_the_containers_of_the_workload_are_paused_then_stopped_with_a_receipt_each(
    containers: Containers, small: SmallWorkload
) -> None:
    small.start_all()
    ids = {containers.run(API_COMMAND), containers.run(COUNTER)}
    other = containers.run(COUNTER, labels={"test": "another"})
    try:
        with case_of(containers.block(small)) as context:
            cordon.fn(context)
            frozen: Freeze = made(freeze.fn(context))
            assert {containers.state(id_) for id_ in ids} == {"paused"}
            assert containers.state(other) == "running"
            assert {each.identity.id for each in frozen.containers} == ids
            assert all(each.paused_at and each.why == containers.asked for each in frozen.containers)
            assert not made(prove_contained.fn(context)).is_contained
            stopped: Stop = made(stop.fn(context))
            contained: Containment = made(prove_contained.fn(context))
    finally:
        containers.client.remove_container(other, force=True)
    assert contained.is_contained
    assert {receipt.identity.id for receipt in stopped.containers} == ids
    assert {receipt.end for receipt in stopped.containers} == {End.STOPPED}
    assert [[name for name, _ in receipt.signals] for receipt in stopped.containers] == [["SIGINT"], ["SIGINT"]]
    assert all(receipt.exit_code is not None and receipt.gone_at for receipt in stopped.containers)
    assert {containers.state(id_) for id_ in ids} == {"exited"}
    assert len(stopped.processes) == 4


@pytest.mark.whole
def test_a_container_that_removes_itself_is_gone_and_its_exit_code_is_known(
    containers: Containers, small: SmallWorkload
) -> None:
    id_ = containers.run(["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"], auto_remove=True)
    with case_of(containers.block(small)) as context, evacuated(context) as (_, stopped, contained):
        (receipt,) = stopped.containers
        assert contained.is_contained
    assert (receipt.end, receipt.exit_code, receipt.removed) == (End.STOPPED, 7, True)
    assert containers.state(id_) == ""


@pytest.mark.sample(1)
@pytest.mark.parametrize("listens", [True, False])
def test_on_the_hosts_network_the_container_that_listened_on_the_apis_port_is_the_api(
    containers: Containers, small: SmallWorkload, *, listens: bool
) -> None:
    """The engine publishes no port of these, and no pattern fits their commands."""
    port = containers.port if listens else free_port()
    serve = ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    api = containers.run(serve, network_mode="host")
    containers.run(COUNTER, network_mode="host")
    with case_of(containers.block(small)) as context:
        cordon.fn(context)
        frozen: Freeze = made(freeze.fn(context))
        found = WorkloadContainers(context).find_api(containers.port)
    assert len(frozen.containers) == 2
    assert (found and found.identity.id) == (api if listens else None)


@pytest.mark.whole
def test_what_always_restarts_stays_stopped(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(COUNTER, restart_policy={"Name": "always"})
    with case_of(containers.block(small)) as context, evacuated(context) as (frozen, _, contained):
        assert contained.is_contained
        assert frozen.containers[0].restart == "always"
        assert (
            kept_config(context.directory.path, frozen.containers[0].identity)["HostConfig"]["RestartPolicy"]["Name"]
            == "always"
        )
        kept = context.directory.path / f"container-{id_}.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert containers.state(id_) == "exited"


@pytest.mark.whole
def test_what_is_between_two_starts_does_not_start_again(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(["sh", "-c", "echo up"], restart_policy={"Name": "always"})
    wait_until(lambda: containers.state(id_) == "restarting", what="the pause between two starts")
    with case_of(containers.block(small)) as context, evacuated(context) as (_, stopped, contained):
        assert contained.is_contained
        assert stopped.is_complete
    assert containers.state(id_) == "exited"


@pytest.mark.whole
def test_one_that_ignores_the_stop_is_killed_after_the_grace(containers: Containers, small: SmallWorkload) -> None:
    containers.run(["python3", "stubborn.py"])
    with case_of(containers.block(small, grace_seconds=0.5)) as context, evacuated(context) as (_, stopped, contained):
        (receipt,) = stopped.containers
        assert contained.is_contained
    assert (receipt.end, receipt.exit_code) == (End.KILLED, 137)
    assert [name for name, _ in receipt.signals] == ["SIGTERM", "SIGKILL"]


@pytest.mark.whole
def test_one_whose_first_process_is_deaf_is_not_waited_for(containers: Containers, small: SmallWorkload) -> None:
    containers.run(["sh", "-c", "echo up; exec sleep 600"])
    began = time.monotonic()
    with case_of(containers.block(small, grace_seconds=60)) as context, evacuated(context) as (_, stopped, _):
        assert stopped.containers[0].end is End.KILLED
    assert time.monotonic() - began < 20


def test_policy_kill_thaws_nothing(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(COUNTER)
    with case_of(containers.block(small)) as context:
        context.run = replace(context.run, policy="kill")
        cordon.fn(context)
        freeze.fn(context)
        before = containers.client.logs(id_)
        (receipt,) = made(stop.fn(context)).containers
        assert made(prove_contained.fn(context)).is_contained
    assert [name for name, _ in receipt.signals] == ["SIGKILL"]
    assert receipt.exit_code == 137
    assert containers.client.logs(id_) == before


@pytest.mark.whole
def test_a_second_run_repeats_nothing_and_keeps_the_receipts(containers: Containers, small: SmallWorkload) -> None:
    containers.run(COUNTER)
    block = containers.block(small)
    with case_of(block) as context, evacuated(context) as (_, first, _):
        pass
    with case_of(block) as context, evacuated(context) as (_, second, contained):
        assert contained.is_contained
    assert first.containers == second.containers


@pytest.mark.whole
def test_uvicorn_in_a_container_is_only_paused_never_signalled_by_pid(
    containers: Containers, small: SmallWorkload
) -> None:
    """It is seen from the host, works in the root by its path, and matches."""
    id_ = in_the_root(containers, small)
    pid = containers.client.inspect_container(id_)["State"]["Pid"]
    process = read_process(pid)
    assert process
    assert process.container == id_
    assert process.cwd == "/mounted"
    with case_of(containers.block(small)) as context:
        cordon.fn(context)
        frozen: Freeze = made(freeze.fn(context))
        assert frozen.processes == ()
        assert psutil.Process(pid).status() != psutil.STATUS_STOPPED
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained


def test_a_match_in_a_container_that_nobody_named_is_not_contained(
    containers: Containers, small: SmallWorkload
) -> None:
    id_ = in_the_root(containers, small)
    with case_of(small.block(api_pattern=API)) as context, evacuated(context) as (frozen, _, contained):
        assert frozen.processes == ()
    assert containers.state(id_) == "running", containers.client.logs(id_)
    assert not contained.is_contained
    assert (
        f"in container {id_[:12]}, which the workload block does not name; add it to `containers`" in contained.summary
    )
    assert containers.state(id_) == "running"


def test_one_that_matches_by_its_command_line_only_is_left_alone_by_name(
    containers: Containers, small: SmallWorkload
) -> None:
    id_ = containers.run(API_COMMAND)
    with case_of(small.block(api_pattern=API)) as context, evacuated(context) as (_, _, contained):
        assert contained.is_contained
    assert any("uvicorn" in told and f"in container {id_[:12]}" in told for told in contained.left_alone)
    assert containers.state(id_) == "running"


def test_without_containers_in_the_block_the_engine_is_never_asked(small: SmallWorkload, tmp_path: Path) -> None:
    with (
        case_of(small.block(docker_host=f"unix://{tmp_path}/none.sock")) as context,
        evacuated(context) as (_, _, contained),
    ):
        assert contained.is_contained
        assert "engine" not in vars(context)


@pytest.mark.whole
def test_an_engine_that_is_absent_is_an_outcome_and_processes_are_frozen_all_the_same(
    small: SmallWorkload, tmp_path: Path
) -> None:
    small.start_all()
    block = small.block(containers=["image=api"], docker_host=f"unix://{tmp_path}/none.sock")
    with case_of(block) as context, evacuated(context) as (frozen, stopped, contained):
        assert not frozen.is_complete
        assert "No such file or directory" in frozen.summary
        assert len(stopped.processes) == 4
    assert not contained.is_contained
    assert "whether its containers run is not known" in contained.summary
    assert small.living() == []


@pytest.mark.whole
def test_an_engine_that_hangs_delays_no_freeze_of_processes(small: SmallWorkload, tmp_path: Path) -> None:
    small.start_all()
    path = tmp_path / "hung.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        block = small.block(containers=["image=api"], docker_host=f"unix://{path}")
        with case_of(block) as context:
            began = time.time()
            frozen: Freeze = made(freeze.fn(context))
            assert all(each.frozen_at and each.frozen_at.timestamp() - began < 2 for each in frozen.processes)
            assert "no answer within" in frozen.summary
            assert time.time() - began < 10


@pytest.mark.whole
def test_a_dry_run_touches_no_container(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(COUNTER, restart_policy={"Name": "always"})
    before = containers.client.inspect_container(id_)
    with case_of(containers.block(small), dry_run=True) as context, evacuated(context) as (_, _, contained):
        assert contained.is_contained
        acts = [entry["act"] for entry in context.log.entries() if entry["action"] == "would"]
        rows = plan(context.log.entries())
    first = next(row for row in rows if row["act"] == "would pause")
    assert id_[:12] in first["on"]
    assert first["why"] == f"container: {containers.asked}"
    assert {"act": "would send SIGINT to the container", "on": first["on"], "why": "container"} in rows
    after = containers.client.inspect_container(id_)
    assert (after["State"], after["HostConfig"]) == (before["State"], before["HostConfig"])
    assert {"pause the container", "take its restart policy from the container", "SIGINT to the container"} <= set(acts)


@pytest.mark.whole
def test_our_own_container_is_not_touched(
    containers: Containers, small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = containers.run(COUNTER), containers.run(COUNTER)
    monkeypatch.setattr("tasks.host.container.membership.standpoint", lambda: type("Here", (), {"own": ours}))
    with case_of(containers.block(small)) as context:
        frozen = made(freeze.fn(context))
        stop.fn(context)
        assert WorkloadContainers(context).tell_living() == ()
    assert {each.identity.id for each in frozen.containers} == {theirs}
    assert containers.state(ours) == "running"


@pytest.mark.whole
def test_a_thaw_lets_paused_containers_go_on_and_leaves_one_that_a_person_had_paused(
    containers: Containers, small: SmallWorkload
) -> None:
    ours, newcomer = containers.run(COUNTER), ""
    theirs = containers.run(COUNTER)
    containers.client.pause(theirs)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        cordon.fn(context)
        assert {containers.state(ours), containers.state(theirs)} == {"paused"}
        newcomer = containers.run(COUNTER)
        wait_until(
            lambda: context.cordon_files.caught.exists() and newcomer in context.cordon_files.caught.read_text(),
            what="the guard's catch",
        )
        freeze.fn(context)  # carried on: by now the newcomer is one of the incident's own
        thawed = made(thaw.fn(context))
    assert [containers.state(each) for each in (ours, newcomer, theirs)] == ["running", "running", "paused"]
    assert thawed.is_complete
    assert len(thawed.thawed) == 2
    assert [theirs[:12] in each for each in thawed.stood] == [True]
