"""§7 by itself: the API comes back and is proven, or the workload stays contained. Real server, store, processes."""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.utilities.callables import parameter_schema

from blocks.store import EvidenceStore
from blocks.workload import Workload
from flows.recover import recover
from tasks.custody.incident.log import broken
from tasks.custody.incident.verdict import Word, why_not_recover
from tasks.custody.models.canary import row_of
from tasks.custody.store.manifest import digest_bytes
from tasks.drill.sample_workload import end_all_in
from tasks.incident.run_lock import take_ownership
from tasks.recovery.api_client import Api, NotRecovered, failure
from tasks.recovery.health import wait_healthy
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.prediction import predict
from tasks.recovery.served_model import find_served, reload
from tasks.system.declarations import VARIABLE, declaration
from tests.support.answering_api import api_that
from tests.support.scenes import Scene, steps_of
from tests.support.workloads import free_port, wait_until


def bring_back(scene: Scene, **parameters: Any) -> State:
    """Run the flow here; the state that it ends in."""
    return recover(scene.name, scene.name, return_state=True, **parameters)


def refused(lock: Path) -> bool:
    """Whether a launcher that asks is refused."""
    return subprocess.run(["flock", "-n", "-E", "75", str(lock), "true"], check=False).returncode == 75


def told(scene: Scene, number: int) -> dict[str, Any]:
    """What a record says."""
    content: dict[str, Any] = json.loads((scene.home / f"record/{number:03d}/verdict.json").read_bytes())
    return content


def change_api(scene: Scene, old: str, new: str) -> None:
    """Make the API behave otherwise."""
    api = scene.small.root / "uvicorn/__main__.py"
    assert old in api.read_text()
    api.write_text(api.read_text().replace(old, new))


def test_the_api_comes_back_proven_and_the_record_carries_the_evidence_on(scene: Scene) -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=scene.name, type="process"))
        scene.save(workload=scene.small.block(pause_pools=[scene.name]))
        scene.small.start_all()
        assert scene.evacuate().name == "Verified"
        assert client.read_work_pool(scene.name).is_paused
        state = bring_back(scene)
        assert (state.type.value, state.name) == ("COMPLETED", "Recovered"), state.message
        assert not client.read_work_pool(scene.name).is_paused
    assert len(scene.small.living()) == 1
    assert not refused(scene.block.lock)
    first, second = told(scene, 1), told(scene, 2)
    assert second["verdict"]["word"] == "VERIFIED"
    assert {name: second[name] for name in ("stop", "coverage", "objects")} == {
        name: first[name] for name in ("stop", "coverage", "objects")
    }
    assert second["carried_from"] == "record/001"
    assert second["recovery"]["prediction"] == "0.25"
    assert second["recovery"]["model"] == "models/model_builtin.joblib"
    assert second["recovery"]["sha256"]
    assert second["recovery"]["health"].startswith("HTTP 200")
    postmortem = (scene.home / "record/002/postmortem.md").read_text()
    assert "predicted" in postmortem
    assert first["stop"]["processes"][0]["command"][:30] in postmortem
    assert scene.store.head(f"incidents/{scene.home.name}/record/002/closing.json")
    segments = ["evidence", "record/001", "record/002"]
    lines = [line for name in segments for line in (scene.home / name / "custody.jsonl").read_bytes().splitlines(True)]
    assert broken(lines) == []
    scene.small.start()
    again = bring_back(scene, incident_id=scene.home.name)
    assert again.name == "Recovered", again.message
    assert told(scene, 3)["carried_from"] == "record/001"


@pytest.mark.soak
def test_a_second_incident_that_froze_no_api_names_the_one_that_has_kept_how_it_ran(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    scene.save(store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command, FERN_MODE="green")
    wait_until(scene.small.healthy, what="the API")
    model = "models/model_builtin.joblib"
    assert [scene.evacuate().name for _ in range(2)] == ["Verified"] * 2
    first, second = (home.name for home in scene.incidents)
    state = bring_back(scene, incident_id=second, model=model)
    assert (state.name, f"`recover --incident {first}`" in str(state.message)) == ("PartlyRecovered", True)
    (api,) = scene.small.living()
    assert f"kill {api.pid}, then" in str(state.message)
    api.terminate()
    wait_until(lambda: not scene.small.living(), what="its end")
    state = bring_back(scene, incident_id=first, model=model)
    assert state.name == "Recovered", state.message
    (api,) = scene.small.living()
    assert api.environ()["FERN_MODE"] == "green"


@pytest.mark.soak
@pytest.mark.parametrize(
    "where",
    [
        "tasks.recovery.recover.uncordon",
        "tasks.recovery.recover.prove_served",
        "tasks.recovery.process_api.ProcessApi.keep",
    ],
)
def test_a_recovery_that_fails_once_half_way_is_tried_again_and_leaves_one_api(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What failed had been done: the lock was open, the API ran, and was on record."""
    (tmp_path / "disk").mkdir()
    scene.save(workload=scene.small.block(recovery_seconds=20), store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    room, _, name = where.rpartition(".")
    real, tries = getattr(resolve_name(room), name), list[object]()

    def fails_once(*given: Any, **named: Any) -> Any:
        tries.append(made := real(*given, **named))
        if len(tries) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return made

    monkeypatch.setattr(where, fails_once)
    state = bring_back(scene, start_as="process")
    assert (state.name, len(tries)) == ("Recovered", 2), state.message
    assert len(scene.small.living()) == 1
    assert not refused(scene.block.lock)
    lines = [line for path in (scene.home / "evidence", *sorted(scene.home.glob("record/0*"))) for line in log_of(path)]
    assert broken(lines) == []
    assert scene.evacuate().name == "Verified"
    assert scene.small.living() == []


def log_of(folder: Path) -> list[bytes]:
    return (folder / "custody.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.whole
def test_an_api_without_a_model_is_ended_and_one_that_predicts_nothing_is_left_up(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    scene.save(workload=scene.small.block(recovery_seconds=5), store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    change_api(scene, '200, {"pred_proba": self', '503, {"mumble": self')
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
    assert "mumble" in str(state.message)
    assert scene.small.living() == []
    assert refused(scene.block.lock)
    assert told(scene, 2)["verdict"]["word"] == "VERIFIED"
    assert told(scene, 2)["recovery"] is None
    assert "the workload is contained" in told(scene, 2)["verdict"]["safe"]
    for answer, words in (('200, {"mumble": self', "mumble"), ('422, {"detail": self', "it refuses the row that we")):
        change_api(scene, '503, {"mumble": self', answer)
        state = bring_back(scene)
        assert (state.type.value, state.name) == ("FAILED", "PartlyRecovered"), state.message
        assert words in str(state.message)
        assert f"{scene.block.api_address}/predict answers HTTP {answer[:3]}" in str(state.message)
        change_api(scene, answer, '503, {"mumble": self')
        if answer.startswith("200"):
            end_all_in(scene.small.root)
    assert len(scene.small.living()) == 1
    assert not refused(scene.block.lock)


@pytest.mark.soak
@pytest.mark.parametrize("named", [True, False])
def test_a_model_of_a_format_that_is_not_read_is_proven_once_the_block_trusts_it(
    scene: Scene, tmp_path: Path, *, named: bool
) -> None:
    """Nothing could answer it: each such service ended PartlyRecovered, and its promised prediction was not asked."""
    (tmp_path / "disk").mkdir()
    (scene.small.root / "models/model_builtin.joblib").unlink()
    (scene.small.root / "models/a b.npz").write_bytes(b"\x00 no pickle")
    change_api(scene, "COLUMNS = [", "open(model).close()\nCOLUMNS = [")
    said = {"models": ["models/*.npz"], "api_environment": {"MODEL_PATH": "models/a b.npz"}}
    said |= {} if named else {"model_at": "", "reload_path": ""}
    asked = {"canary_request": {"features": {"age": 0.0, "city": ""}}}
    scene.save(workload=scene.small.block(**said), store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command, MODEL_PATH="models/a b.npz")
    wait_until(scene.small.healthy, what="the API's answer")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert "First: no model was judged, 未判定: their formats are not read here" in str(state.message)
    state = bring_back(scene)
    assert state.name == "PartlyRecovered", state.message
    assert "that it predicts: not asked" in str(state.message)
    scene.save(workload=scene.small.block(**said, **asked))
    state = bring_back(scene)
    assert state.name == "PartlyRecovered", state.message
    assert ", and predicts 0.25" in str(state.message)
    assert "KeyError" not in str(state.message)
    line = re.search(r"model_formats = (\[.*?\])", str(state.message))
    assert line, state.message
    scene.save(workload=scene.small.block(**said, **asked, model_formats=json.loads(line[1])))
    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    assert "with models/a b.npz, sha256" in str(state.message)
    (scene.small.root / "models/a b.npz").write_bytes(b"\x00 another")
    assert bring_back(scene).name == "NotRecovered"


@pytest.mark.soak
def test_after_a_wrong_swap_what_was_served_comes_back_or_what_a_person_names_and_never_the_newest(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    served, newest = "models/model_openml_adult.joblib", "models/model_builtin.joblib"
    (scene.small.root / served).write_bytes(pickle.dumps("served"))
    os.utime(scene.small.root / served, (1, 1))
    scene.save(store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command, MODEL_PATH=served)
    wait_until(scene.small.healthy, what="the API's answer")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    sealed = [json.loads(line) for line in (scene.home / "evidence/custody.jsonl").read_text().splitlines()]
    assert [each["object"] for each in sealed if each["action"] == "model served"] == [served]
    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    assert f"with {served}, sha256" in str(state.message)
    assert f"at the freeze: {served} (named by its environment)" in str(state.message)
    state = bring_back(scene, model=newest)
    assert state.name == "Recovered", state.message
    assert f"with {newest}, sha256" in str(state.message)
    assert f"at the freeze: {served} (named by its environment)" in str(state.message)
    assert told(scene, 3)["recovery"]["before"].startswith(served)
    stamp = scene.home.name.removeprefix("IR-")
    (scene.small.root / served).unlink()
    state = bring_back(scene, model=f"{stamp}:{served}")
    assert state.name == "Recovered", state.message
    assert (scene.small.root / served).read_bytes() == pickle.dumps("served")


@pytest.mark.whole
def test_a_file_that_was_changed_after_the_api_had_started_is_not_known_to_be_what_it_served_or_serves(
    scene: Scene, tmp_path: Path
) -> None:
    """Recovered, with another model: a file replaced after it was loaded, and one put back under an API that lives."""
    (tmp_path / "disk").mkdir()
    name = "models/model_builtin.joblib"
    scene.save(workload=scene.small.block(reload_path=""), store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command)
    wait_until(scene.small.healthy, what="the API's answer")
    (scene.small.root / name).write_bytes(pickle.dumps("another"))
    assert scene.evacuate().name == "Verified"
    state = bring_back(scene)
    assert state.name == "PartlyRecovered", state.message
    assert f"what it served at the freeze: {name} was changed at " in str(state.message)
    assert "after the API had started (" in str(state.message)
    state = bring_back(scene, model=name)
    assert state.name == "Recovered", state.message
    stamp = scene.home.name.removeprefix("IR-")
    (scene.small.root / name).unlink()
    state = bring_back(scene, model=f"{stamp}:{name}")
    assert state.name == "PartlyRecovered", state.message
    assert "that it serves the file as it is now: " in str(state.message)
    assert "stop it (pid " in str(state.message)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("late", "stopped"),
    [
        pytest.param("models/scaler.joblib", False, marks=pytest.mark.soak),
        ("feature.py", False),
        pytest.param("conf/settings.json", False, marks=pytest.mark.soak),
        ("conf/settings.json", True),
        pytest.param("conf/settings.py", False, marks=pytest.mark.soak),
        pytest.param("conf/settings.py", True, marks=pytest.mark.soak),
        pytest.param("data/scaler.pkl", False, marks=pytest.mark.soak),
        pytest.param("data/scaler.pkl", True, marks=pytest.mark.soak),
        pytest.param("", False, marks=pytest.mark.soak),
    ],
)
def test_what_the_api_reads_at_its_start_and_was_changed_since_the_one_before_is_told(
    scene: Scene, tmp_path: Path, late: str, *, stopped: bool
) -> None:
    """It read a second model, a module, or settings that its start does not name: Recovered, with other predictions."""
    (tmp_path / "disk").mkdir()
    root, program = scene.small.root, scene.small.root / "uvicorn/__main__.py"
    (root / "models/scaler.joblib").write_bytes(pickle.dumps([1.0]))
    (root / "feature.py").write_text("SIZE = 1\n")
    for name, content in (
        ("conf/settings.json", b'{"scale": 1}'),
        ("conf/settings.py", b'PASSWORD = "cAnArY-7f1d-Xq9"\n'),
        ("data/scaler.pkl", pickle.dumps([1.0])),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    more = "import sys\nsys.path[:0] = ['.', 'conf']\nimport feature, settings\nopen('models/scaler.joblib').close()\n"
    more += "open('conf/settings.json').close()\nopen('data/scaler.pkl').close()\nopen('api.pid', 'w').write('1')\n"
    program.write_text(more + program.read_text())
    scene.save(workload=scene.small.block(), store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command, MODEL_PATH="models/model_builtin.joblib")
    wait_until(scene.small.healthy, what="the API's answer")
    (root / "artifacts/metrics.json").write_text("{}")

    def change() -> None:
        (root / late).write_bytes((root / late).read_bytes() + b"\n")
        (root / "other.py").write_text("SIZE = 2\n")

    if late and not stopped:
        change()
    assert scene.evacuate().name == "Verified"
    if stopped:
        change()
    state = bring_back(scene)
    assert state.name == ("PartlyRecovered" if late else "Recovered"), state.message
    assert (f": {late} was changed at" in str(state.message)) is bool(late)
    if late:
        state = bring_back(scene)
        assert state.name == "PartlyRecovered", "it lives, and has read it"
        state = bring_back(scene, model="models/model_builtin.joblib")
        assert state.name == "Recovered", state.message


@pytest.mark.whole
def test_a_model_that_was_changed_between_two_runs_is_not_what_comes_back_nor_what_latest_gets(
    scene: Scene, tmp_path: Path
) -> None:
    """The second run took it, its words said nothing, latest/ got it, and the recovery was complete."""
    (tmp_path / "disk").mkdir()
    name = "models/model_builtin.joblib"
    before = (scene.small.root / name).read_bytes()
    scene.save(workload=scene.small.block(reload_path=""), store=EvidenceStore(folder=tmp_path / "disk"))
    scene.small.start(scene.small.api_command)
    wait_until(scene.small.healthy, what="the API's answer")
    assert scene.evacuate().name == "Verified"
    (scene.small.root / name).write_bytes(pickle.dumps("swapped"))
    (scene.small.root / "logs/more.log").write_text("more")
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    assert "between two runs" in str(state.message)
    assert name in str(state.message), "whichever of the two was the last"
    assert (tmp_path / "disk/latest" / name).read_bytes() == before
    state = bring_back(scene)
    assert state.name == "PartlyRecovered", state.message
    assert "that it serves what it served at the freeze" in str(state.message)
    line = re.search(r"--model (\S+):models/model_builtin.joblib", str(state.message))
    assert line, state.message
    end_all_in(scene.small.root)
    state = bring_back(scene, model=f"{line[1]}:{name}")
    assert state.name == "Recovered", state.message
    assert (scene.small.root / name).read_bytes() == before


@pytest.mark.soak
def test_a_model_that_nobody_wants_and_a_training_has_changed_since_holds_up_no_recovery(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    wanted, other = "models/model_builtin.joblib", scene.small.root / "models/model_step.joblib"
    other.write_bytes(pickle.dumps("step"))
    scene.save(store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    other.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    state = bring_back(scene, model=wanted, start_as="process")
    assert state.name == "NotRecovered", state.message
    assert "model_step.joblib, which is not as sealed: would import os.system" in str(state.message)
    other.write_bytes(pickle.dumps("trained since"))
    state = bring_back(scene, model=wanted, start_as="process")
    assert state.name == "Recovered", state.message
    assert f"with {wanted}, sha256" in str(state.message)
    assert "beside it, not as sealed 証跡と異なる: models/model_step.joblib" in str(state.message)


@pytest.mark.soak
def test_an_api_may_write_beside_its_models_and_a_second_proof_that_fails_contains_it_again(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    scene.save(workload=scene.small.block(models=["models/**"]), store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    change_api(scene, "COLUMNS = [", "open('models/last_used.json', 'w').write('{}')\nCOLUMNS = [")
    state = bring_back(scene, start_as="process")
    assert state.name == "Recovered", state.message
    assert (scene.small.root / "models/last_used.json").exists()
    model = scene.small.root / "models/model_builtin.joblib"
    good = model.read_bytes()
    for let_in in (True, False):
        if let_in:
            scene.small.start()
        model.write_bytes(pickle.dumps("forged"))
        state = bring_back(scene)
        assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
        assert "model_builtin.joblib" in str(state.message)
        assert bool(scene.small.living()) == let_in
        assert refused(scene.block.lock) != let_in
        model.write_bytes(good)
        end_all_in(scene.small.root)
        if not let_in:
            change_api(scene, "COLUMNS = [", "raise SystemExit(1)\nCOLUMNS = [")
            assert bring_back(scene).name == "NotRecovered"
            assert refused(scene.block.lock), "the recovery before the last one has no say any more"
            change_api(scene, "raise SystemExit(1)\nCOLUMNS = [", "COLUMNS = [")
        state = bring_back(scene, start_as="process")
        assert state.name == "Recovered", state.message


@pytest.mark.soak
def test_a_release_to_which_a_link_leads_is_promoted_and_comes_back(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    release = scene.small.root / "store/release-3"
    release.mkdir(parents=True)
    (release / "model.joblib").write_bytes(pickle.dumps("release 3"))
    (scene.small.root / "models/model_current").symlink_to("../store/release-3")
    scene.save(workload=scene.small.block(models=["models/model_*"]), store=EvidenceStore(folder=tmp_path / "disk"))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert (tmp_path / "disk/latest/models/model_current/model.joblib").read_bytes() == pickle.dumps("release 3")
    state = bring_back(scene, model="models/model_current/model.joblib", start_as="process")
    assert state.name == "Recovered", state.message
    assert told(scene, 2)["recovery"]["model"] == "models/model_current/model.joblib"


@pytest.mark.soak
def test_a_link_that_holds_itself_is_lost_and_said_to_be(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (scene.small.root / "models/model_all").symlink_to("..")
    scene.save(workload=scene.small.block(models=["models/model_*"]), store=EvidenceStore(folder=tmp_path / "disk"))
    state = scene.evacuate()
    assert state.name == "Partial", state.message
    assert "models/model_all" in str(state.message)


@pytest.mark.soak
def test_a_model_that_was_sealed_as_suspect_is_judged_again_by_the_block_as_it_is_now(scene: Scene) -> None:
    own = scene.small.root / "models/model_own.joblib"
    own.write_bytes(b"cportfolio_features\nScaler\n.")
    os.utime(own, (1, 1))
    scene.save(workload=scene.small.block(model_imports=["mine"]))
    scene.small.start_all()
    assert scene.evacuate().name == "Verified"
    sealed = (scene.home / "evidence/models.json").read_bytes()
    state = bring_back(scene)
    assert state.name == "NotRecovered", state.message
    line = re.search(r"model_imports = (\[.*?\])", str(state.message))
    assert line, state.message
    names = json.loads(line[1])
    assert names[0] == "mine"
    assert names[1].startswith("portfolio_features")
    assert scene.small.living() == []
    scene.save(workload=scene.small.block(model_imports=names))
    state = bring_back(scene, model="models/model_builtin.joblib")
    assert state.name == "Recovered", state.message
    assert (scene.home / "evidence/models.json").read_bytes() == sealed
    (entry,) = [each for each in entries(scene) if each["action"] == "model judged again"]
    assert entry["result"] == "models/model_own.joblib is sound; sealed as suspect"
    assert entry["object"] in (scene.home / "record/003/custody.jsonl").read_text()
    assert " 0.25. The incident is VERIFIED" in str(state.message)


def entries(scene: Scene) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]


@pytest.mark.soak
def test_unverified_is_refused_unless_a_reason_is_given(scene: Scene, tmp_path: Path) -> None:
    scene.save(store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Unverified"
    (tmp_path / "disk").mkdir()
    state = bring_back(scene)
    assert state.is_failed()
    assert "Nothing was touched" in str(state.message)
    assert "despite" in str(state.message)
    assert refused(scene.block.lock)
    assert not (scene.home / "record/002").exists()
    state = bring_back(scene, despite="the store is gone for good, users wait", start_as="process")
    assert state.name == "Recovered", state.message
    assert "UNVERIFIED" in str(state.message)
    assert told(scene, 2)["verdict"]["word"] == "UNVERIFIED"
    assert told(scene, 2)["despite"] == "the store is gone for good, users wait"
    assert (
        f"prefect deployment run evacuate/evacuate-{scene.name} --param incident_id="
        in told(scene, 2)["verdict"]["next"]
    )


@pytest.mark.whole
def test_a_broken_seal_or_record_touches_nothing_and_life_is_no_state_to_recover_from(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    scene.save(store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    log = scene.home / "evidence/logs/train-20260101_000000.log"
    content = log.read_bytes()
    log.write_bytes(b"changed")
    state = bring_back(scene)
    assert state.name == "NotRecovered"
    assert log.name in str(state.message)
    assert [how for name, how in steps_of(state).items() if name.startswith("§7 recover the API")] == ["NotReady"]
    assert refused(scene.block.lock)
    log.write_bytes(content)
    record = scene.home / "record/002/verdict.json"
    content = record.read_bytes()
    record.write_bytes(content.replace(b"VERIFIED", b"PARTIAL "))
    state = bring_back(scene)
    assert state.is_failed()
    assert "sha256" in str(state.message)
    assert refused(scene.block.lock)
    record.write_bytes(content)
    assert_a_stranger_refuses_it_and_a_held_newcomer_is_ended(scene)


def assert_a_stranger_refuses_it_and_a_held_newcomer_is_ended(scene: Scene) -> None:
    """A recovery refuses while a stranger lives, and ends what the guard holds: that makes nothing NOTCONTAINED."""
    scene.small.start(["setsid", "--fork", "perl", "-e", "sleep 600"]).wait()
    wait_until(scene.small.living, what="its start")
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
    assert told(scene, 3)["verdict"]["word"] == "UNANSWERED"
    (stranger,) = scene.small.living()
    assert str(stranger.pid) in str(state.message)
    stranger.kill()
    wait_until(lambda: not scene.small.living(), what="its end")
    scene.small.start(["setsid", "--fork", *scene.small.training_command], WORKERS="0").wait()
    wait_until(
        lambda: [each.status() for each in scene.small.living()] == [psutil.STATUS_STOPPED], what="the guard's catch"
    )
    (caught,) = scene.small.living()
    state = bring_back(scene, despite="the stranger is gone", start_as="process")
    assert (state.type.value, state.name) == ("COMPLETED", "Recovered"), state.message
    assert not caught.is_running(), "what the guard held is ended, as by an uncordon"
    assert told(scene, 4)["verdict"]["word"] == "UNANSWERED"


@pytest.mark.whole
def test_a_workload_without_an_incident_is_refused_and_a_busy_one_is_joined(scene: Scene) -> None:
    state = bring_back(scene)
    assert state.is_failed()
    assert "Nothing was touched" in str(state.message)
    home = scene.block.evidence / "IR-20260102T030405Z"
    home.mkdir(parents=True)
    incident = {"id": home.name, "workload": scene.name, "host": "h", "boot": "b", "reason": "r", "opened_by": "me"}
    times = dict.fromkeys(("opened_at", "detected_at"), "2026-01-02T03:04:05Z")
    (home / "incident.json").write_text(json.dumps(incident | times))
    held = take_ownership(scene.block.evidence)
    assert held is not None
    state = bring_back(scene, incident_id=home.name)
    os.close(held)
    assert (state.type.value, state.name) == ("COMPLETED", "Joined")
    state = bring_back(scene, incident_id=home.name)
    assert "none of its runs has closed a record" in str(state.message)


@pytest.mark.parametrize(
    ("word", "despite", "may"),
    [
        (Word.VERIFIED, "", True),
        (Word.PARTIAL, "", True),
        (Word.UNVERIFIED, "", False),
        (Word.UNVERIFIED, "why", True),
        (Word.NOT_CONTAINED, "why", False),
        (None, "why", False),
    ],
)
def test_only_unverified_can_be_overridden(word: Word | None, despite: str, *, may: bool) -> None:
    assert (why_not_recover(word, despite) == "") == may


def test_a_recovery_of_what_is_not_contained_claims_no_containment() -> None:
    refused_for = why_not_recover(Word.NOT_CONTAINED, "")
    assert "The workload is contained" not in str(failure("an incident whose evidence is safe", refused_for))


def test_the_form_explains_every_parameter() -> None:
    for name, schema in parameter_schema(recover).properties.items():
        assert len(schema.get("description", "")) > 10, name


MODEL = digest_bytes(b"model")
SCHEMA = (200, b'{"features": {"age": "number"}}')
COLUMNS = (200, b'{"required_columns": ["age", "city"], "numeric_columns": ["age"]}')
NO_COLUMNS = (200, b'{"required_columns": [], "numeric_columns": []}')


@pytest.mark.parametrize(
    ("schema", "answer", "prediction"),
    [
        (SCHEMA, (200, b'{"prediction": "malignant"}'), '"malignant"'),
        (SCHEMA, (200, b'{"prediction": 0}'), "0"),
        ((200, b'["age"]'), (200, b'{"predictions": [1]}'), "[1]"),
        (COLUMNS, (200, b'{"pred_proba": 0.0107}'), "0.0107"),
        (COLUMNS, (200, b'{"pred_proba": 0.0}'), "0.0"),
        (COLUMNS, (200, b'{"pred": 0}'), "0"),
        (NO_COLUMNS, (200, b'{"pred_proba": 0.5}'), "0.5"),
    ],
)
def test_a_prediction_is_told(schema: tuple[int, bytes], answer: tuple[int, bytes], prediction: str) -> None:
    with api_that({"/schema": schema, "/predict": answer}) as api:
        assert predict(api).answer == prediction


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (SCHEMA, (422, b"age must be above 18")),
        ((404, b"Not Found"), (200, b"")),
        ((200, b"[" * 100_000), (200, b"")),
        ((200, b'{"features": {}}'), (200, b"")),
        (COLUMNS, (422, b"no such city")),
        (NO_COLUMNS, (500, b"")),
        (NO_COLUMNS, (422, b"")),
        (COLUMNS, (500, b"")),
        (COLUMNS, (200, b'{"pred_proba": null}')),
        (COLUMNS, (200, b'{"pred_proba": [[null, ""]]}')),
        (SCHEMA, (500, b"")),
        (SCHEMA, (302, b"")),
        (SCHEMA, (401, b"no key")),
        (SCHEMA, (200, b"{}")),
        (SCHEMA, (200, b'{"prediction": null}')),
        (SCHEMA, (200, b"ok")),
        (SCHEMA, (200, b"<html>")),
    ],
)
def test_a_row_that_is_refused_or_an_answer_without_a_prediction_proves_nothing_and_says_so(
    schema: tuple[int, bytes], answer: tuple[int, bytes]
) -> None:
    with api_that({"/schema": schema, "/predict": answer}) as api:
        made = predict(api)
    assert made.answer == ""
    assert made.unproven.startswith("that it predicts: ")
    assert api.url in made.unproven


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ((503, b"no model loaded"), (200, b'{"prediction": 1}')),
        (SCHEMA, (503, b"no model loaded")),
        (COLUMNS, (503, b"no model loaded")),
        (NO_COLUMNS, (503, b"no model loaded")),  # by an empty schema the real API says this, and what it can't read
        (SCHEMA, (200, b'{"prediction": "' + b"x" * (2 << 20) + b'"}')),
    ],
)
def test_no_model_or_no_end_of_an_answer_is_a_failure(schema: tuple[int, bytes], answer: tuple[int, bytes]) -> None:
    with api_that({"/schema": schema, "/predict": answer}) as api, pytest.raises(NotRecovered, match=r"127\.0\.0\.1"):
        predict(api)


def test_only_files_of_the_models_folder_are_loaded_and_believed(tmp_path: Path) -> None:
    models = tmp_path / "root/models"
    (models.parent / "store").mkdir(parents=True)
    models.mkdir()
    for good in (models / "good.joblib", models.parent / "store/good.joblib"):
        good.write_bytes(b"model")
    (tmp_path / "evil.joblib").write_bytes(b"model")
    (models / "link.joblib").symlink_to(tmp_path / "evil.joblib")
    (models / "current").symlink_to("../store")
    folder = HostFolder(models.parent, models)
    with api_that({"/reload": (200, b"{}")}) as api:
        assert reload(api, "models/good.joblib", MODEL, folder) == ""
        assert reload(api, "models/current/good.joblib", MODEL, folder) == ""
        with pytest.raises(NotRecovered, match="to have sha256 0000"):
            reload(api, "models/good.joblib", "0" * 64, folder)
        for path in (
            "models/link.joblib",
            "models/../../evil.joblib",
            "models/../store/good.joblib",
            "store/good.joblib",
            str(tmp_path / "evil.joblib"),
            "models",
            "models/no",
        ):
            with pytest.raises(NotRecovered):
                reload(api, path, MODEL, folder)
    for said in ("models/link.joblib", "/etc/passwd", "models/no", "link.joblib", "evil.joblib", "", "None", "\0"):
        with pytest.raises(NotRecovered):
            find_served(said, ["models/good.joblib"], folder)
    for said in ("models/good.joblib", str(models / "good.joblib"), "./models/good.joblib", "good.joblib"):
        assert folder.real(find_served(said, ["models/good.joblib"], folder)) == models / "good.joblib"
    for said in ("models/current/good.joblib", "good.joblib"):
        path = find_served(said, ["models/current/good.joblib"], folder)
        assert folder.real(path) == models.parent / "store/good.joblib"


def test_a_reload_that_is_refused_is_told_with_its_url(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.joblib").write_bytes(b"model")
    with api_that({"/load": (404, b"Not Found")}, reload_path="/load") as api:
        told = reload(api, "models/a.joblib", MODEL, HostFolder(tmp_path, tmp_path / "models"))
        assert told == f"that it reloads models/a.joblib: {api.url}/load answers HTTP 404: 'Not Found'"


@pytest.mark.soak
def test_a_command_that_starts_daemons_and_returns_is_no_recovery_and_leaves_none_of_them(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    script = scene.small.root / "up.sh"
    line = " ".join(scene.small.api_command)
    script.write_text(f"setsid {line} &\nnohup perl -e 'sleep 600' &\nsleep 600 | cat &\nexit 0\n")
    store = EvidenceStore(folder=tmp_path / "disk")
    url = f"http://127.0.0.1:{scene.small.port}"
    scene.save(workload=scene.small.block(api_command=["sh", "up.sh"], api_url=url), store=store)
    scene.small.start_all()
    assert scene.evacuate().name == "Verified"
    state = bring_back(scene, model="models/model_builtin.joblib")
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
    assert "it ended with 0; api_command has to stay in the foreground" in str(state.message)
    assert scene.small.living() == []
    assert refused(scene.block.lock)
    script.write_text(f"exec {line}\n")
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("COMPLETED", "Recovered"), state.message


@pytest.mark.soak
def test_a_base_name_that_two_models_have_is_not_decided_and_a_path_is(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    models = scene.small.root / "models"
    (models / "old").mkdir()
    shutil.copy(models / "model_builtin.joblib", models / "old/model_same.joblib")
    (models / "old/model_builtin.joblib").write_bytes(pickle.dumps("another"))
    os.utime(models / "old/model_builtin.joblib", (0, 0))
    os.utime(models / "old/model_same.joblib", (0, 0))
    block = scene.small.block(models=["models/**"])
    scene.save(workload=block, store=EvidenceStore(folder=tmp_path / "disk"))
    assert scene.evacuate().name == "Verified"
    state = bring_back(scene)
    assert state.name == "PartlyRecovered", state.message
    assert "'model_builtin.joblib' is models/model_builtin.joblib, or models/old/model_builtin.joblib" in str(
        state.message
    )
    assert told(scene, 2)["recovery"]["sha256"] == ""
    end_all_in(scene.small.root)
    change_api(scene, '"model": os.path.basename(model), "ts"', '"model": model, "ts"')
    state = bring_back(scene, model="models/model_builtin.joblib", start_as="process")
    assert state.name == "Recovered", state.message


def test_an_api_that_never_answers_is_waited_for_no_longer_than_it_lives(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Api(Workload(root="/srv/a", api_url=url)) as api:
        for listens in (True, False):
            with pytest.raises(NotRecovered, match=rf"an answer from {url}/health in 0\.3 s"):
                wait_healthy(api, lambda: True, lambda: listens, 0.3, tmp_path)  # noqa: B023  called at once
        with pytest.raises(NotRecovered, match="keep running; got it ended with 3; see"):
            wait_healthy(api, lambda: False, lambda: True, 60, tmp_path, lambda: "it ended with 3")


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        ({"required_columns": ["a", "b", 3], "numeric_columns": ["b", [], "c"]}, {"a": "", "b": 0.0}),
        ({"required_columns": ["a"], "numeric_columns": []}, {"a": ""}),
        ({"required_columns": ["a"]}, {"a": 0.0}),
        ({"required_columns": [], "numeric_columns": []}, {}),
        ({"features": {"a": "number", "b": "string"}}, {"a": 0.0, "b": ""}),
        ({"features": ["a", "b", 3]}, {"a": 0.0, "b": 0.0}),
        (["a"], {"a": 0.0}),
        ({"properties": {"a": {"type": "integer"}, "b": {"type": ["null", "boolean"]}}}, {"a": 0, "b": False}),
        ({"features": {"properties": {"a": {"type": "string", "enum": ["x", "y"]}}}}, {"a": "x"}),
        ({"columns": [], "features": {"a": None}}, {"a": 0.0}),
        ({"features": {"a": "float64", "b": "object"}}, {"a": 0.0, "b": ""}),
        ("hello", {}),
        (None, {}),
    ],
)
def test_a_row_is_made_from_any_of_the_known_schemas(schema: Any, row: dict[str, Any]) -> None:
    assert row_of(schema) == row


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_command_runs_as_root_or_differs_from_what_root_declares_and_the_evidence_is_safe(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hosts := tmp_path / "hosts.d").mkdir()
    monkeypatch.setenv(VARIABLE, str(hosts))
    scene.save(workload=scene.small.block(training_command=scene.small.training_command))
    (shared := scene.small.root / "shared").mkdir()
    shared.chmod(0o777)
    scene.small.start_all()
    assert scene.evacuate().name == "Verified"
    assert "an account other than root" in json.dumps(told(scene, 1))
    for fields, words in (
        (None, f"another account can change what it starts: {shared} of mode 0777"),
        ({"user": ""}, "an account other than root"),
        ({"api_command": ["venv/bin/python", "-c", "1"]}, "api_command as root has declared"),
        ({"root": tmp_path}, "a root folder that root has declared"),
    ):
        if fields is not None:
            declare(hosts, scene, **fields)
        state = bring_back(scene)
        assert state.type.value == "FAILED", state.message
        assert words in str(state.message)
        assert scene.small.living() == []
        assert refused(scene.block.lock)
    declare(hosts, scene)
    assert scene.evacuate(incident_id=scene.home.name).name == "Verified"
    state = bring_back(scene)
    assert state.name == "Recovered", state.message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_api_that_root_alone_can_change_comes_back_as_root_undeclared(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hosts := tmp_path / "hosts.d").mkdir()
    monkeypatch.setenv(VARIABLE, str(hosts))
    scene.small.start_all()
    assert scene.evacuate().name == "Verified"
    other = [*scene.small.api_command, "--reload"]
    scene.save(workload=scene.small.block(api_command=other))
    state = bring_back(scene)
    assert "not as what ran as root had it" in str(state.message), "a server's word is not root's"
    scene.save(workload=scene.small.block())
    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    (api,) = scene.small.living()
    assert api.uids().real == 0


def declare(hosts: Path, scene: Scene, **fields: Any) -> None:
    """What root declares of the workload: its block as it is, but for these fields."""
    about = {"user": "root", **fields}
    (hosts / "own.toml").write_text(declaration(scene.block.model_copy(update=about)))
    (hosts / "own.toml").chmod(0o644)
