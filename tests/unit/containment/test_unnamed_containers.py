"""Containers that the block does not name: which contradict containment, and an engine that does not help."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pytest

from tasks.containment.containers import unnamed as steps
from tasks.containment.containment_check import check_containment
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.place import Place
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import Container, Mount
from tasks.host.container.rehearsal import RehearsalEngine
from tasks.host.rehearsal import RehearsalHost
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.host import check_unnamed
from tasks.runtime.context import RunContext
from tests.support.memory_engine import MemoryEngine, container, engine_of
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

TRAINING = ("python3", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(containers=["image=named:1"])) as context:
        context.adapters.host = PaperHost()
        yield context


def mounting(source: Path, *, writable: bool = True, **about: Any) -> Container:
    return container(1, mounts=(Mount(str(source), PurePath("/app"), writable),), **about)


def told(run: RunContext) -> tuple[list[str], list[str]]:
    """What of `alive` and of the notes is of containers."""
    found = check_containment(run)
    return [each for each in found.alive if "container" in each], [each for each in found.notes if "contain" in each]


def test_one_that_may_write_into_the_root_is_named_with_its_line_and_left_alone(run: RunContext) -> None:
    engine = engine_of(run, mounting(run.workload.root))
    (line,), notes = told(run)
    assert line.startswith("container c1 (000000000000, served:1) is running, and not named in the block: ")
    assert f"it may write into the root: {run.workload.root} is mounted writable at /app" in line
    assert 'containers = ["image=named:1", "name=c1"]; if not: docker stop c1' in line
    assert re.search(r"[\u3040-\u30ff]", line)
    assert notes == []
    assert engine.acts == []
    assert [entry["object"] for entry in run.log.entries() if entry["action"] == "suspect"] == [container(1).id]


def test_policy_kill_and_suspects_include_stop_none(run: RunContext) -> None:
    run.run = replace(run.run, policy="kill", suspects="include")
    engine = engine_of(run, mounting(run.workload.root))
    freeze.fn(run)
    stop.fn(run)
    assert engine.acts == []
    assert told(run)[0]


@pytest.mark.parametrize("state", ["paused", "restarting"])
def test_one_that_is_paused_or_restarts_counts(run: RunContext, state: str) -> None:
    engine_of(run, mounting(run.workload.root, state=state))
    assert told(run)[0]


@pytest.mark.parametrize(
    ("name", "writable", "counts"),
    [("", True, 1), ("..", True, 1), ("logs", True, 1), ("models", False, 1), ("link", True, 1), ("../two", True, 0)],
)
def test_a_mount_counts_by_where_it_leads(run: RunContext, name: str, counts: int, *, writable: bool) -> None:
    root = run.workload.root
    (root / "link").symlink_to(root / "artifacts")
    (root / "../two").mkdir()
    engine_of(run, mounting(Path(os.path.normpath(f"{root}/{name}")), writable=writable))
    assert [len(each) for each in told(run)] == [counts, 0]


def test_a_link_outside_that_leads_into_the_root_counts(run: RunContext, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(run.workload.root)
    engine_of(run, mounting(tmp_path / "elsewhere/logs"))
    assert told(run)[0]


def test_one_that_reads_logs_is_noted(run: RunContext) -> None:
    engine_of(run, mounting(run.workload.root / "logs", writable=False))
    lines, (note,) = told(run)
    assert lines == []
    assert "container c1" in note
    assert "logs is mounted read-only at /app" in note


def test_one_without_a_part_of_the_workload_is_not_told(run: RunContext) -> None:
    engine_of(run, container(1), container(2, ports=frozenset({1})))
    assert told(run) == ([], [])


def test_one_that_publishes_the_api_s_port(run: RunContext) -> None:
    port = int(run.workload.api_address.rpartition(":")[2])
    engine_of(run, container(1, ports=frozenset({port})))
    (line,), _ = told(run)
    assert f"it publishes the API's port {port}" in line


def test_one_whose_process_matches_and_is_in_the_root(run: RunContext) -> None:
    box = mounting(run.workload.root / "src", writable=False)
    inside = process(1, TRAINING, cwd="/app", container=box.id, places=frozenset({Place.CWD}))
    run.adapters.host = PaperHost(inside, root=run.directory.root)
    engine_of(run, box)
    lines, _ = told(run)
    assert [line for line in lines if f"its process {inside.pid} matches" in line]
    run.adapters.host = PaperHost(replace(inside, container="another"), root=run.directory.root)
    lines, _ = told(run)
    assert not [line for line in lines if f"its process {inside.pid} matches" in line]


@pytest.mark.parametrize("name", ["name=c1", "image=served:1", "label=team=ml"])
def test_what_the_block_names_is_no_suspect(run: RunContext, name: str) -> None:
    run.workload = run.workload.model_copy(update={"containers": [name]})
    engine = engine_of(run, mounting(run.workload.root, labels={"team": "ml"}))
    assert len(told(run)[0]) == 1  # as a member that lives
    engine.end(container(1).id, 0)
    assert told(run) == ([], [])


def test_one_all_of_whose_processes_are_bystanders_is_excused(run: RunContext) -> None:
    run.workload = run.workload.model_copy(update={"bystanders": ["^fluent-bit"]})
    box = mounting(run.workload.root)
    shipper = process(1, ("fluent-bit", "-c", "x"), container=box.id)
    run.adapters.host = PaperHost(shipper)
    engine_of(run, box)
    assert told(run)[0] == []
    run.adapters.host = PaperHost(shipper, process(2, ("sh",), container=box.id))
    assert len(told(run)[0]) == 1


@pytest.mark.whole
@pytest.mark.slow
def test_the_container_of_our_guard_is_ours(run: RunContext) -> None:
    """A worker in a container starts it there, and is then replaced by another container."""
    box = mounting(run.workload.root)
    guard = process(1, ("python", "-m", "tasks.guard"), container=box.id)
    run.adapters.host = host = PaperHost(guard)
    engine_of(run, box)
    assert len(told(run)[0]) == 1
    host.stands = guard.identity
    assert told(run)[0] == []


def test_the_dry_run_names_the_same(small: SmallWorkload) -> None:
    with case_of(small.block(), dry_run=True) as rehearsed:
        assert isinstance(rehearsed.adapters.host, RehearsalHost)
        real = MemoryEngine(mounting(small.root))
        rehearsed.adapters.engine = RehearsalEngine(real, rehearsed.log, rehearsed.adapters.host.containers)  # type: ignore[arg-type]  # as in engine_of
        (line,), _ = told(rehearsed)
    assert "it may write into the root" in line
    assert real.acts == []


@pytest.fixture
def unnamed_run(small: SmallWorkload, tmp_path: Path) -> Iterator[RunContext]:
    """Of a block that names no containers, and whose engine a test makes."""
    with case_of(small.block(docker_host=f"unix://{tmp_path}/docker.sock")) as context:
        context.adapters.host = PaperHost()
        yield context


def test_without_a_socket_nothing_is_said(unnamed_run: RunContext) -> None:
    assert told(unnamed_run) == ([], [])


def test_an_engine_that_is_down_or_talks_rubbish_is_noted(unnamed_run: RunContext, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as door:
        door.bind(str(tmp_path / "docker.sock"))
        lines, (note,) = told(unnamed_run)
    assert lines == []
    assert f"the Docker engine at unix://{tmp_path}/docker.sock could not be asked: Connection refused" in note
    assert "containers with the root mounted would not be seen" in note
    engine_of(unnamed_run).there = {"x": None}  # type: ignore[dict-item]  # what nobody expects
    assert len(told(unnamed_run)[1]) == 1


@pytest.mark.slow
def test_an_engine_that_hangs_costs_seconds_after_the_freeze_and_none_before(
    unnamed_run: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_SECONDS", 0.3)
    with closing(socket.socket(socket.AF_UNIX)) as door:
        door.bind(str(tmp_path / "docker.sock"))
        door.listen()
        began = time.monotonic()
        freeze.fn(unnamed_run)
        door.setblocking(False)
        with pytest.raises(BlockingIOError):
            door.accept()
        lines, (note,) = told(unnamed_run)
        assert time.monotonic() - began < 5
    assert lines == []
    assert "no answer within 0.3 s" in note


@pytest.mark.slow
def test_an_engine_that_drips_is_left_behind(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its answers is in time, and the last never comes."""
    monkeypatch.setattr(steps, "_SECONDS", 0.2)
    engine, over = engine_of(run, mounting(run.workload.root)), threading.Event()

    def wait(act: str, id_: str) -> None:
        del id_
        if act == "list" and threading.current_thread() is not threading.main_thread():
            over.wait(60)

    engine.before = wait
    try:
        _, (note,) = told(run)
    finally:
        over.set()
    assert "no answer within 0.2 s" in note


def test_an_engine_that_fails_is_red_if_the_block_names_containers(small: SmallWorkload, tmp_path: Path) -> None:
    block = small.block(docker_host=f"unix://{tmp_path}/docker.sock", containers=["name=c1"])
    with case_of(block) as context:
        context.adapters.host = PaperHost()
        (line,), _ = told(context)
    assert line.startswith("whether its containers run is not known")


def readiness(run: RunContext, monkeypatch: pytest.MonkeyPatch, *there: Container) -> tuple[str, str]:
    engine = MemoryEngine(*there)
    monkeypatch.setattr("tasks.readiness.host.DockerEngine", lambda _: engine)
    found = check_unnamed(CheckTarget("a", run.workload, "s", {}))
    return str(found.weight), found.found


def test_the_doctor_lists_them(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, line = readiness(run, monkeypatch, mounting(run.workload.root))
    assert (weight, "it may write into the root" in line, "name=c1" in line) == ("fatal", True, True)
    weight, line = readiness(run, monkeypatch, mounting(run.workload.root / "logs", writable=False))
    assert (weight, "read-only" in line) == ("sound", True)
    assert readiness(run, monkeypatch, container(1)) == ("sound", "none")


def test_what_is_paused_by_us_is_no_suspect_while_the_block_names_it(run: RunContext) -> None:
    run.workload = run.workload.model_copy(update={"containers": ["name=c1"]})
    engine_of(run, mounting(run.workload.root))
    freeze.fn(run)
    assert [each for each in check_containment(run).alive if "not named" in each] == []


def test_the_mounts_of_a_process_that_is_not_in_the_container_are_not_its_own(run: RunContext, tmp_path: Path) -> None:
    """From a container without the host's pids, the engine's pid is of somebody else."""
    (tmp_path / "other").mkdir()
    mount = Mount(str(tmp_path / "other"), PurePath(run.workload.root), writable=True)
    engine_of(run, container(1, mounts=(mount,), pid=os.getpid()))
    assert told(run) == ([], [])


def test_the_real_engine_has_no_socket_here(tmp_path: Path) -> None:
    assert steps.ask_engine(DockerEngine(f"unix://{tmp_path}/none"), ()).result(5) == []
