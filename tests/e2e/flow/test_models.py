"""A whole evacuation of a workload that leaves good, torn and hostile models behind, and secrets in its logs."""

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from tasks.evidence.being_written import BEING_WRITTEN
from tasks.models import inspect as inspect_models
from tests.integration.host.test_model_inspection import Calls, bomb, estimator, read_endless_ones_briefly
from tests.support.scenes import Scene, steps_of
from tests.support.workloads import wait_until

SECRET = "ghp" + "_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
BOMB_MIB = 256

HALF = """
import time
held = []
for name in ("artifacts/whole.csv", "models/whole.safetensors"):
    with open(name, "w") as file:
        file.write("x,y\\n1,2\\n")
for name in ("artifacts/cv.csv", "models/net.safetensors", "logs/fit.log"):
    file = open(name, "a")
    file.write("x,y\\n1,")
    file.flush()
    held.append(file)
open("ready", "w").close()
time.sleep(600)
"""

LATE = """
import signal, time
def end(*_):
    held.append(open("artifacts/cv.csv", "w"))
    held[0].write("x,y\\n1,")
    held[0].flush()
    with open("artifacts/whole.csv", "w") as file:
        file.write("x,y\\n1,2\\n")
    time.sleep(600)
held = []
signal.signal(signal.SIGINT, end)
open("ready", "w").close()
time.sleep(600)
"""


@pytest.fixture
def hostile(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The canary is touched by whoever unpickles the evil model."""
    read_endless_ones_briefly(monkeypatch)
    models = scene.small.root / "models"
    joblib.dump(estimator(), models / "model_sound.joblib")
    (models / "model_torn.joblib").write_bytes((models / "model_sound.joblib").read_bytes()[:-100])
    joblib.dump([np.arange(100.0), Calls(os.mknod, str(tmp_path / "canary"))], models / "model_evil.joblib")
    (models / "model_bomb.joblib").write_bytes(bomb(BOMB_MIB))
    return scene


def names(scene: Scene, prefix: str) -> set[str]:
    return {Path(each.key).name for each in scene.store.list(prefix)}


def verdict(scene: Scene, number: int) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((scene.home / f"record/{number:03d}/verdict.json").read_bytes())
    return told


def test_all_models_are_evidence_only_the_sound_one_is_promoted_and_a_run_that_carries_on_judges_nothing_twice(
    hostile: Scene, tmp_path: Path
) -> None:
    good = hostile.store_block
    hostile.save(store=type(good)(**dict(good) | {"endpoint": "http://127.0.0.1:9"}))
    assert hostile.evacuate().name == "Unverified"
    hostile.save(store=good)
    state = hostile.evacuate(incident_id=hostile.home.name)
    assert state.name == "Verified", state.message
    assert steps_of(state)["§4 judge the models"] == "Cached"
    assert not (tmp_path / "canary").exists()
    every = {f"model_{kind}.joblib" for kind in ("builtin", "sound", "torn", "evil", "bomb")}
    incident = hostile.home.name
    assert names(hostile, f"incidents/{incident}/evidence/models/") == every
    assert names(hostile, "snapshots/") >= every
    assert names(hostile, "latest/models/") == {"model_builtin.joblib", "model_sound.joblib"}
    sealed = json.loads((hostile.home / "evidence/manifest.json").read_bytes())["items"]
    assert "models.json" in {item["path"] for item in sealed}
    assert not [item for item in sealed if item.get("note", "").startswith("left by")]
    for told in (json.dumps(verdict(hostile, number), ensure_ascii=False) for number in (1, 2)):
        for words in ("joblib is torn", "model_evil.joblib is suspect: would import posix.mknod", "is unknown"):
            assert words in told
        assert "sklearn.linear_model._logistic.LogisticRegression" in told


@pytest.mark.whole
def test_what_a_writer_was_at_when_it_was_frozen_is_evidence_and_does_not_replace_what_is_whole(scene: Scene) -> None:
    """Half a table, and half a model that nobody reads, were put over whole ones."""
    root = scene.small.root
    (root / "src/train.py").write_text(HALF)
    scene.save(workload=scene.small.block(models=["models/*"], model_formats=[".safetensors"]))
    scene.small.start()
    wait_until((root / "ready").exists, what="what it writes")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert names(scene, "snapshots/") >= {"cv.csv", "net.safetensors", "whole.csv", "whole.safetensors", "fit.log"}
    for kind, held, there in (("artifacts", "cv.csv", "whole.csv"), ("models", "net.safetensors", "whole.safetensors")):
        assert there in names(scene, f"latest/{kind}/")
        assert held not in names(scene, f"latest/{kind}/")
    assert "fit.log" in names(scene, "latest/logs/")
    assert f"artifacts/cv.csv ({BEING_WRITTEN})" in json.dumps(verdict(scene, 1), ensure_ascii=False)


@pytest.mark.whole
def test_what_is_opened_in_the_grace_and_killed_at_does_not_replace_what_is_whole_either(scene: Scene) -> None:
    root = scene.small.root
    (root / "src/train.py").write_text(LATE)
    scene.save(workload=scene.small.block(grace_seconds=2.0))
    scene.small.start()
    wait_until((root / "ready").exists, what="its start")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert names(scene, "snapshots/") >= {"cv.csv", "whole.csv"}
    assert "whole.csv" in names(scene, "latest/artifacts/")
    assert "cv.csv" not in names(scene, "latest/artifacts/")


@pytest.mark.whole
def test_a_judge_that_fails_stops_neither_the_seal_nor_the_upload(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the judge is ill")

    monkeypatch.setattr(inspect_models, "_judge_all", fails)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert "no model was judged" in json.dumps(verdict(scene, 1))
    assert names(scene, "latest/models/") == set()
    assert names(scene, "latest/artifacts/")


@pytest.mark.soak
def test_recovery_brings_back_the_model_that_was_served_not_the_blocks_and_no_newer_one(hostile: Scene) -> None:
    hostile.save(workload=hostile.small.block(api_environment={"MODEL_PATH": "models/model_sound.joblib"}))
    models = hostile.small.root / "models"
    for number, kind in enumerate(("sound", "builtin", "torn", "evil", "bomb")):
        os.utime(models / f"model_{kind}.joblib", (1_700_000_000 + number, 1_700_000_000 + number))
    hostile.small.start_all()
    state = hostile.evacuate(recover=True)
    assert state.name == "Verified", state.message
    entries = [json.loads(line) for line in (hostile.home / "custody.jsonl").read_text().splitlines()]
    (proven,) = [entry for entry in entries if entry["action"] == "model proven"]
    assert proven["object"] == "models/model_builtin.joblib"


@pytest.mark.soak
def test_an_api_that_names_no_model_is_not_started_with_a_suspect_beside_it(hostile: Scene, tmp_path: Path) -> None:
    hostile.small.start_all()
    state = hostile.evacuate(recover=True)
    assert state.name == "NotRecovered", state.message
    assert "model_evil.joblib: would import posix.mknod" in str(state.message)
    assert "name the model in the API's own start" in str(state.message)
    assert hostile.small.living() == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.whole
@pytest.mark.parametrize("sensitive", [pytest.param("scan", marks=pytest.mark.soak), "withhold"])
def test_a_secret_in_a_log_is_told_and_withheld_if_the_block_says_so(scene: Scene, sensitive: str) -> None:
    log = scene.small.root / "logs/train-leak.log"
    log.write_text(f"harmless\npushing with {SECRET}\n")
    scene.save(workload=scene.small.block(sensitive=sensitive))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    stored = {each.key for each in scene.store.list("") if each.key.endswith("train-leak.log")}
    assert len(stored) == (3 if sensitive == "scan" else 0)
    told = json.dumps(verdict(scene, 1))
    words = "look like secrets" if sensitive == "scan" else "logs/train-leak.log was withheld"
    assert words in told
    holding = [path for path in scene.home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert [path.name for path in holding] == (["train-leak.log"] if sensitive == "scan" else [])
    coverage = (scene.home / "evidence/coverage.json").read_text()
    assert "GitHub token" in coverage
