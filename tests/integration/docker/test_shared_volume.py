"""A volume, or a folder of the host, from which a container's models are collected: who else writes there counts."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.containment import silence
from tasks.containment.containers.unnamed import ask_engine, judge_unnamed
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.silence import Writers, rehearse_silence
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment
from tasks.custody.incident.readiness import Weight
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.host import LinuxHost
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_suspects
from tests.integration.host.test_suspects import apart
from tests.support.containers import Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the engine's folders, and hears who writes"),
]
IDLE = ["sh", "-c", "echo up; exec sleep 600"]
WRITES = "while :; do echo more >{}/candidate.json; sleep 0.1; done"
MODELS = ["/data/models/*.json"]


def serve(containers: Containers, source: str) -> str:
    """The workload's own container, the only one that the block names."""
    return containers.run(IDLE, name=f"{containers.mark}-api", binds=[f"{source}:/data"])


def block_of(containers: Containers, small: SmallWorkload, **changes: object) -> Workload:
    return containers.block(small, containers=[f"name={containers.mark}-api"], **({"models": MODELS} | changes))


def evacuated(block: Workload, during: Callable[[], object] = bool) -> Containment:
    """§1 to §3, and what is known at the end."""
    with case_of(block) as context:
        for step in (cordon, freeze, stop, prove_contained, watch):
            step.fn(context)
        during()
        found: Containment = made(prove_still_contained.fn(context))
    return found


def of_test(containers: Containers, lines: tuple[str, ...]) -> list[str]:
    return [each for each in lines if containers.mark in each or "candidate.json" in each]


@pytest.mark.parametrize(
    ("target", "is_writable"),
    [("/elsewhere", True), ("/data:ro", False)],
    ids=["at another path", "read-only"],
)
def test_a_container_that_shares_the_volume_is_a_suspect_if_it_may_write(
    containers: Containers, small: SmallWorkload, target: str, *, is_writable: bool
) -> None:
    volume = f"{containers.mark}-volume"
    serve(containers, volume)
    id_ = containers.run(IDLE, binds=[f"{volume}:{target}"])
    block = block_of(containers, small)
    with closing(DockerEngine(block.docker_host)) as engine:
        before, _ = judge_unnamed(
            ask_engine(engine, block.containers), block, None, LinuxHost(root=small.root).snapshot(), ()
        )
    found = evacuated(block)
    counts = [len(before), *(len(of_test(containers, lines)) for lines in (found.alive, found.notes))]
    assert counts == ([1, 1, 0] if is_writable else [0, 0, 1])
    assert all("containers = [" in each for each in of_test(containers, found.alive))
    assert containers.state(id_) == "running"


def test_one_that_shares_what_no_pattern_reaches_is_none(containers: Containers, small: SmallWorkload) -> None:
    volume = f"{containers.mark}-volume"
    serve(containers, volume)
    containers.run(IDLE, binds=[f"{volume}:/data"])
    found = evacuated(block_of(containers, small, models=["models/*.joblib"]))
    assert of_test(containers, found.alive) == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("writes", [True, False], ids=["writes", "is quiet"])
def test_a_process_of_the_host_that_writes_there_contradicts(
    containers: Containers,
    small: SmallWorkload,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    writes: bool,
) -> None:
    """It wrote models that had been taken as those of the container, and the run was Verified."""
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2)
    folder = tmp_path / "shared"
    for name in ("models", "other"):
        (folder / name).mkdir(parents=True)
    serve(containers, str(folder))
    block = block_of(containers, small)
    place = folder / ("models" if writes else "other")
    with apart(["sh", "-c", WRITES.format(shlex.quote(str(place)))], Path("/"), place / "candidate.json") as writer:
        with case_of(block, dry_run=True) as context:
            freeze.fn(context)
            foretold: Writers = made(rehearse_silence.fn(context))
        found = evacuated(block)
    lines = [each for each in of_test(containers, found.alive) if f"{folder}/models/candidate.json was changed" in each]
    assert bool(lines) is writes
    assert bool(foretold.changes) is writes
    if writes:
        assert f"process {writer.pid}" in f"{lines} {foretold.summary}"


HOLDS = "import sys, time; f = open(sys.argv[1], sys.argv[2]); open(sys.argv[3], 'w').close(); time.sleep(600)"


@pytest.mark.parametrize(("mode", "counts"), [("a", True), ("r", False)], ids=["for writing", "for reading"])
def test_who_has_a_file_open_there_counts_if_he_may_write(
    containers: Containers, small: SmallWorkload, tmp_path: Path, mode: str, *, counts: bool
) -> None:
    """A process that worked there, with the served model open for append, lived on under Verified."""
    (folder := tmp_path / "shared/models").mkdir(parents=True)
    (folder / "m.json").write_text("{}")
    serve(containers, str(folder.parent))
    words = [sys.executable, "-c", HOLDS, str(folder / "m.json"), mode, str(ready := tmp_path / "ready")]
    block = block_of(containers, small)
    with apart(words, Path("/"), ready) as process:
        weight = check_suspects(CheckTarget("small", block, "", {})).weight
        found = evacuated(block)
    assert [each.startswith(f"{process.pid}: ") for each in found.alive] == [True] * counts
    assert (weight is Weight.SOUND) is not counts


def test_who_works_there_is_asked_about_or_a_suspect_if_it_matches(
    containers: Containers, small: SmallWorkload, tmp_path: Path
) -> None:
    (folder := tmp_path / "shared/models").mkdir(parents=True)
    serve(containers, str(folder.parent))
    words = [sys.executable, "-c", "open('../ready', 'w').close(); import time; time.sleep(600)", "fit.py"]
    with apart(words, folder, tmp_path / "shared/ready") as process:
        asked = evacuated(block_of(containers, small))
    assert [each.identity.pid for each in asked.unknown] == [process.pid]
    (tmp_path / "shared/ready").unlink()
    with apart(words, folder, tmp_path / "shared/ready") as process:
        found = evacuated(block_of(containers, small, training_pattern=r"fit\.py$"))
    assert [each.startswith(f"{process.pid}: ") for each in found.alive] == [True]


def test_what_is_written_into_a_volume_by_hand_after_the_stop_contradicts(
    containers: Containers, small: SmallWorkload
) -> None:
    """The engine has ended the container; its volume is still there for everybody else."""
    volume = f"{containers.mark}-volume"
    serve(containers, volume)
    (folder,) = (Path(each["Mountpoint"]) for each in containers.client.volumes()["Volumes"] if each["Name"] == volume)
    (folder / "models").mkdir()
    late = folder / "models/m.json"

    def write() -> None:
        with apart(["sh", "-c", f"echo more >{shlex.quote(str(late))}; exec sleep 60"], Path("/"), late):
            pass

    found = evacuated(block_of(containers, small), write)
    (line,) = [each for each in found.alive if "m.json was changed" in each]
    assert f"{folder}/models/m.json" in line
