"""What a container writes and prints in its graceful stop is in the evidence, or named, also if it removes itself."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.store import EvidenceStore
from tasks.containment.containers import stop
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tests.support.containers import Containers
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("prefect")]
LOG = "logs/train-20260101_000000.log"
TRAINING = "trap '{last}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
WRITES = (
    f"echo Zq7last; echo Zq7last >>{LOG}; echo Zq7last >logs/train-new.log; echo Zq7last >final.txt; "
    "echo Zq7last >/data/part; mv /data/part /data/summary.csv; echo Zq7last >weights.joblib"
)
NOTHING = ":"


@pytest.fixture
def scene(small: SmallWorkload, s3_block: EvidenceStore, containers: Containers) -> Iterator[Scene]:
    for name in ("models", "artifacts", "logs", "venv"):
        shutil.rmtree(small.root / name)
    scene = Scene(small, s3_block)
    artifacts = ["artifacts/*", "/data/*.csv"]
    scene.save(workload=containers.block(small, may_be_missing=["packages"], artifacts=artifacts))
    yield scene
    LinuxHost().release(scene.block.evidence / CORDON)


def run(containers: Containers, last: str, *, auto_remove: bool) -> str:
    name = f"{containers.mark}-training"
    volume = [f"{containers.mark}-data:/data"]
    containers.run(["sh", "-c", TRAINING.format(last=last)], name=name, binds=volume, auto_remove=auto_remove)
    return name


def notes_of(scene: Scene) -> list[str]:
    verdict = json.loads((scene.home / "record/001/verdict.json").read_bytes())["verdict"]
    notes: list[str] = verdict["notes"]
    return notes


def ends_of(folder: Path) -> set[str]:
    """The evidence files that end with the last words."""
    files = (each for each in folder.rglob("*") if each.is_file() and "attempt-" not in str(each))
    return {str(each.relative_to(folder)) for each in files if each.read_bytes().endswith(b"Zq7last\n")}


@pytest.mark.parametrize("auto_remove", [True, False])
def test_what_a_container_writes_as_it_ends_is_in_the_evidence(
    scene: Scene, containers: Containers, *, auto_remove: bool
) -> None:
    name = run(containers, WRITES, auto_remove=auto_remove)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    log = "container.end.log" if auto_remove else "container.log"
    taken = {LOG, "logs/train-new.log", f"containers/{name}/from~root/data/summary.csv"}
    taken |= {f"containers/{name}/changed/app/final.txt", f"containers/{name}/{log}"}
    assert ends_of(scene.home / "evidence") == taken
    assert (scene.home / "evidence" / LOG).read_bytes() == b"iteration 1\nZq7last\n"
    assert [each for each in notes_of(scene) if "weights.joblib" in each], notes_of(scene)
    stored = {key.key.partition("/evidence/")[2] for key in scene.store.list("incidents/")}
    assert taken <= stored


@pytest.mark.sample(1)
@pytest.mark.parametrize("auto_remove", [True, False])
def test_a_container_that_ends_without_a_word_is_told_of_in_no_note(
    scene: Scene, containers: Containers, *, auto_remove: bool
) -> None:
    run(containers, NOTHING, auto_remove=auto_remove)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert not [each for each in notes_of(scene) if "stopped" in each or "停止中" in each]
    assert not list((scene.home / "evidence").glob("attempt-*"))
    assert ends_of(scene.home / "evidence") == set()


@pytest.mark.parametrize("auto_remove", [True, False])
def test_what_a_pattern_names_is_kept_though_it_may_hold_a_secret(
    scene: Scene, containers: Containers, *, auto_remove: bool
) -> None:
    """The block does not ask to have it withheld."""
    run(containers, f"echo password=hunter2Zq7 >>{LOG}; echo Zq7last >>{LOG}", auto_remove=auto_remove)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert (scene.home / "evidence" / LOG).read_bytes() == b"iteration 1\npassword=hunter2Zq7\nZq7last\n"


def test_a_folder_in_a_volume_that_is_called_as_its_place_is_not_that_place(
    scene: Scene, containers: Containers
) -> None:
    scene.save(workload=scene.block.model_copy(update={"artifacts": ["artifacts/*", "/data/data/*.csv"]}))
    name = run(containers, "mkdir /data/data; echo k,Zq7last >/data/data/fold.csv", auto_remove=True)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert ends_of(scene.home / "evidence") == {f"containers/{name}/from~root/data/data/fold.csv"}


def test_what_a_container_that_stays_writes_through_a_mapping_is_taken_too(
    scene: Scene, containers: Containers
) -> None:
    """Such a file can keep its time of writing."""
    code = """
import mmap, signal, sys, time
with open("artifacts/state.csv", "w+b") as file:
    file.write(b"step,0\\n" * 512)
    file.flush()
    mapped = mmap.mmap(file.fileno(), 7 * 512)
mapped[:6] = b"step,1"
def end(*_):
    mapped[:6] = b"step,9"
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
time.sleep(2)
print("up", flush=True)
while True:
    time.sleep(0.05)
"""
    containers.run(["python3", "-c", code])
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert (scene.home / "evidence/artifacts/state.csv").read_bytes().startswith(b"step,9\n")


@pytest.mark.parametrize("policy", ["kill", "graceful"])
def test_what_a_container_was_writing_when_it_was_stopped_is_evidence_and_not_in_latest(
    scene: Scene, containers: Containers, policy: str
) -> None:
    """What it had open when it was paused, or what it opened in its grace and was killed at."""
    write = "f = open('artifacts/half.csv', 'w'); f.write('x,y\\n1,'); f.flush()"
    now, late = (write, "0") if policy == "kill" else ("0", write)
    code = f"""
import signal, time
def end(*_):
    {late}
    time.sleep(600)
signal.signal(signal.SIGTERM, end)
{now}
print("up", flush=True)
time.sleep(600)
"""
    containers.run(["python3", "-c", code])
    scene.save(workload=scene.block.model_copy(update={"grace_seconds": 2.0}))
    state = scene.evacuate(policy=policy)
    assert state.name == "Verified", state.message
    kept = {each.key.rsplit("/", 1)[1] for each in scene.store.list("snapshots/")}
    latest = {each.key.rsplit("/", 1)[1] for each in scene.store.list("latest/")}
    assert {"half.csv", "cv_results_builtin.csv"} <= kept
    assert "cv_results_builtin.csv" in latest
    assert "half.csv" not in latest


def test_where_nobody_can_listen_the_stop_of_one_that_removes_itself_is_a_loss(
    scene: Scene, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(stop, "LastWords", denied)
    name = run(containers, WRITES, auto_remove=True)
    state = scene.evacuate()
    assert state.name == "Partial", state.message
    assert f"container {name}" in str(state.message)
    assert "policy=kill" in str(state.message)


@pytest.mark.soak
def test_an_old_file_that_is_brought_in_as_it_ends_is_taken_too(scene: Scene, containers: Containers) -> None:
    """Its time of writing is that of its source."""
    run(containers, "cp -p Dockerfile logs/train-old.log", auto_remove=False)
    assert scene.evacuate().name == "Verified"
    assert (scene.home / "evidence/logs/train-old.log").read_bytes().startswith(b"FROM ")


def test_policy_kill_lets_a_container_write_nothing(scene: Scene, containers: Containers) -> None:
    run(containers, WRITES, auto_remove=True)
    state = scene.evacuate(policy="kill")
    assert state.name == "Verified", state.message
    assert ends_of(scene.home / "evidence") == set()
