"""A run that dies leaves a guard: what the run had thawed does not run on, and the next run ends it as its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.uncordon import find_held, uncordon
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import End
from tasks.guard.containers import ContainerGuard
from tasks.host.container.membership import Container
from tasks.host.guard_config import GuardConfig
from tasks.host.host import LinuxHost
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.table import start_of
from tasks.incident.layout import CAUGHT, CORDON, FROZEN, FROZEN_CONTAINERS, RECOVERED_CONTAINERS
from tasks.incident.run_lock import at_work, take_ownership
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import load_frozen
from tasks.system.files.atomic_files import caught_lines
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload, wait_until

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Stop, Watch
    from tasks.host.container.docker_engine import DockerEngine, Engine

STUBBORN = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
worker = os.fork()
open(f"ready-{os.getpid()}", "w").close()
while True:
    time.sleep(0.01)
"""

RUN = """
import sys
from pathlib import Path
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload
from tasks.containment.freeze import freeze
from tasks.containment.cordon import cordon
from tasks.containment.stop import stop
small = SmallWorkload.__new__(SmallWorkload)
small.root, small.port = Path(sys.argv[1]), int(sys.argv[2])
with case_of(small.block(grace_seconds=300)) as case:
    cordon.fn(case)
    freeze.fn(case)
    print("frozen", flush=True)
    stop.fn(case)
"""

PARENT = """
import subprocess, sys, time
from pathlib import Path
from tasks.incident.run_lock import take_ownership
descriptor = take_ownership(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
print(child.pid, flush=True)
time.sleep(60)
"""


def states(small: SmallWorkload) -> set[str]:
    return {process.status() for process in small.living()}


def stubborn(small: SmallWorkload) -> set[int]:
    """A training that heeds no gentle signal: it runs until the grace is over. Its pids."""
    (small.root / "src/train.py").write_text(STUBBORN)
    small.start()
    wait_until(lambda: len(list(small.root.glob("ready-*"))) == 2, what="the training's start")
    return {process.pid for process in small.living()}


@contextmanager
def in_the_grace(small: SmallWorkload) -> Iterator[subprocess.Popen[bytes]]:
    """A real run of the incident that waits for the workload to end, which it has thawed."""
    command = [sys.executable, "-c", RUN, str(small.root), str(small.port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE) as run:
        try:
            assert run.stdout
            assert run.stdout.readline() == b"frozen\n"
            wait_until(lambda: psutil.STATUS_STOPPED not in states(small), what="the thaw")
            yield run
        finally:
            run.kill()
            LinuxHost().release(small.block().evidence / CORDON)


@pytest.fixture
def killed(small: SmallWorkload) -> Iterator[set[int]]:
    """The workload's pids after its run was killed in the grace, under a cordon that stands."""
    pids = stubborn(small)
    with in_the_grace(small) as run:
        run.kill()
        run.wait()
        yield pids


@pytest.mark.whole
def test_what_a_run_had_thawed_is_frozen_again_when_it_dies(small: SmallWorkload, killed: set[int]) -> None:
    """The guard left them to a run that was dead: the workload computed on under a standing cordon."""
    with case_of(small.block()) as context:
        context.close()  # nobody is at work: the guard alone is there
        wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, 20, what="the guard's catch")
        assert {process.pid for process in small.living()} == killed


@pytest.mark.whole
def test_the_next_run_ends_them_as_what_the_incident_froze(small: SmallWorkload, killed: set[int]) -> None:
    wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the guard's catch")
    with case_of(small.block(grace_seconds=1)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stopped: Stop = made(stop.fn(context))
        watched: Watch = made(watch.fn(context))
        assert made(prove_contained.fn(context)).is_contained
        assert {receipt.identity.pid for receipt in stopped.processes} == killed
        assert {receipt.end for receipt in stopped.processes} == {End.KILLED}
        assert watched.summary == "nothing came back"
        assert [entry for entry in context.log.entries() if entry["action"] == "caught"] == []
        assert find_held(context.adapters.host, context.workload) == {}


@pytest.mark.whole
def test_a_run_in_its_grace_is_not_disturbed(small: SmallWorkload) -> None:
    first = stubborn(small)
    caught = small.block().evidence / CAUGHT
    disturbed = set[int]()

    def looked_again(before: int) -> bool:
        disturbed.update(pid for pid in first if psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        return len(list(caught_lines(caught))) > before

    with in_the_grace(small):
        for _ in range(4):
            before = len(list(caught_lines(caught)))
            small.start(["setsid", "--fork", *small.training_command]).wait()
            wait_until(lambda count=before: looked_again(count), what="a catch: the guard has looked")  # type: ignore[misc]
    assert not disturbed


def hold_frozen(context: RunContext, small: SmallWorkload) -> Identity:
    """The incident has frozen a training that runs again, and no run is at work."""
    cordon.fn(context)
    small.start(WORKERS="0")
    wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the training's freeze")
    freeze.fn(context)
    (who,) = load_frozen(context.state)
    return who


@pytest.mark.whole
def test_what_the_incident_froze_is_never_killed_by_the_guard(small: SmallWorkload) -> None:
    """However often it is thawed: it is evidence until a run has looked at it."""
    with case_of(small.block()) as context:
        who = hold_frozen(context, small)
        context.close()
        process = psutil.Process(who.pid)
        for _ in range(6):
            process.resume()
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the guard's next look")
        assert process.is_running()


def test_a_journal_in_a_folder_that_others_may_write_to_spares_nobody(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        small.start(WORKERS="0")
        wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the training's freeze")
        (process,) = small.living()
        context.directory.path.chmod(0o777)
        for name in (FROZEN, "recovered.json"):
            forged = f'[{{"pid": {process.pid}, "start": {start_of(process.pid)}}}]'
            (context.directory.path / name).write_text(forged)
        process.resume()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 20, what="the guard's next look")


def test_who_is_at_work_is_known_although_the_disk_takes_no_signature(tmp_path: Path) -> None:
    """On a full disk the guard would take a run in its grace for dead, and fight it."""
    assert not at_work(tmp_path)
    mine = take_ownership(tmp_path)
    assert mine is not None
    os.ftruncate(mine, 0)
    assert at_work(tmp_path)
    os.close(mine)
    assert not at_work(tmp_path)


def test_a_child_that_has_inherited_the_lock_of_a_dead_run_is_no_run(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE) as run:
        assert run.stdout
        child = psutil.Process(int(run.stdout.readline()))
        try:
            assert at_work(tmp_path)
            run.kill()
            run.wait()
            assert child.is_running()
            assert not at_work(tmp_path)
        finally:
            child.kill()


class ListedEngine:
    """An engine that knows a list of containers, and pauses them."""

    def __init__(self, *containers: Container) -> None:
        """Know these."""
        self.known = {each.id: each for each in containers}
        self.ended: list[str] = []

    def containers(self, _: object) -> list[Container]:
        """All of them."""
        return list(self.known.values())

    def pause(self, id_: str) -> None:
        """As the engine would."""
        self.known[id_] = replace(self.known[id_], state="paused")

    def signal(self, id_: str, _: str) -> None:
        """Note whom it would end."""
        self.ended.append(id_)


def container(id_: str) -> Container:
    return Container(ContainerIdentity(id_ * 64, "then"), f"name-{id_}", "api", "sha256:0", "running")


def test_a_container_that_a_dead_run_had_thawed_is_paused_again(tmp_path: Path) -> None:
    home = tmp_path / INCIDENT
    home.mkdir(mode=0o700)
    thawed, recovered = container("a"), container("b")
    for name, each in ((FROZEN_CONTAINERS, thawed), (RECOVERED_CONTAINERS, recovered)):
        (home / name).write_text(json.dumps([{"identity": asdict(each.identity), "name": each.name}]))
    told = GuardConfig(
        *(INCIDENT, "why", "now", "lock", "marker", "caught", (), WorkloadDescription("/", ()), ()),
        containers=("image=api",),
        known_containers=(str(home / FROZEN_CONTAINERS),),
        started_containers=(str(home / RECOVERED_CONTAINERS),),
        evidence=str(tmp_path),
    )
    notes: list[dict[str, Any]] = []
    guard, engine = ContainerGuard(told, notes.append), ListedEngine(thawed, recovered)
    guard.engine = cast("DockerEngine", engine)
    run = take_ownership(tmp_path)
    guard.watch()
    assert [each.state for each in engine.known.values()] == ["running", "running"]
    os.close(run or -1)
    guard.watch()
    assert [each.state for each in engine.known.values()] == ["paused", "running"]
    guard.watch()
    assert [note["container"]["id"] for note in notes] == [thawed.id]


def test_only_a_container_that_belongs_to_the_workload_is_ended_with_the_cordon(small: SmallWorkload) -> None:
    """A name in a file is not enough: it may be another's container, which a person has paused."""
    now = "2026-01-02T03:04:05.678901234Z"
    caught, stranger = (
        replace(container(id_), identity=ContainerIdentity(id_ * 64, now), state="paused") for id_ in "ab"
    )
    engine = ListedEngine(caught, replace(stranger, image="another's"))
    with case_of(small.block(containers=["image=api"], docker_host="unix:///nowhere.sock")) as context:
        lines = [{"container": asdict(each.identity)} for each in (caught, caught, stranger)]
        context.cordon_files.marker.write_text(json.dumps({"since": "2026-01-02T03:04:05+00:00"}))
        context.cordon_files.caught.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        done = uncordon(
            context.adapters.host, context.adapters.scheduler, context.workload, context.log, cast("Engine", engine)
        )
    assert (engine.ended, done.ended) == ([caught.id], (caught.summary,))
