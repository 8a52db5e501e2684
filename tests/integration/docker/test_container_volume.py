"""A model and logs in a volume outside the working directory, which the API names: lost by name, or taken."""

import json
import shlex
import shutil
from collections.abc import Iterator

import pytest

from blocks.store import EvidenceStore
from tasks.custody.incident.readiness import Weight
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_models
from tests.support.containers import API_COMMAND, Containers
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

PREPARE = """
mkdir -p /data/voices/anna /data/logs
echo model >/data/voices/anna/model.onnx; echo words >/data/voices/anna/vocab; echo line >/data/logs/a.log
sed -i 's|os.path.basename(model)|"voices/anna/model.onnx"|' uvicorn/__main__.py
exec {api}
"""
DECLARED = ["packages", "models", "logs", "artifacts", "container_files"]


@pytest.fixture
def scene(small: SmallWorkload, s3_block: EvidenceStore, prefect: object) -> Iterator[Scene]:
    del prefect
    for name in ("models", "artifacts", "logs", "venv"):
        shutil.rmtree(small.root / name)
    scene = Scene(small, s3_block)
    yield scene
    LinuxHost().release(scene.block.evidence / CORDON)


def serve(containers: Containers) -> str:
    script = PREPARE.format(api=shlex.join(API_COMMAND))
    name = f"{containers.mark}-api"
    containers.run(["sh", "-c", script], ports=True, name=name, binds=[f"{containers.mark}-data:/data"])
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    return name


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("models", "word"),
    [
        (["models/*.onnx"], "Partial"),
        (["/data/voices/*/model.onnx"], "Verified"),
    ],
)
def test_a_model_in_a_volume_that_the_api_names_is_taken_or_a_loss(
    scene: Scene, containers: Containers, small: SmallWorkload, models: list[str], word: str
) -> None:
    """A run ended Verified without it, as may_be_missing named models, and no pattern reached it."""
    name = serve(containers)
    block = containers.block(small, models=models, may_be_missing=DECLARED)
    scene.save(workload=block)
    found = check_models(CheckTarget("small", block, "", {}))
    state = scene.evacuate()
    assert state.name == word, state.message
    line = json.dumps([*models, "/data/voices/anna/model.onnx"])
    assert (f"models = {line}" in str(state.message)) is (word == "Partial")
    assert (f"models = {line}" in f"{found.found} {found.cure}") is (word == "Partial")
    assert (found.weight is Weight.SOUND) is (word == "Verified")
    assert "0 files of 0 bytes" not in str(state.message)
    if word == "Partial":
        assert f"containers/{name}/data/, not counted (a volume of {containers.mark}-data" in str(state.message)
        scene.save(workload=containers.block(small, models=json.loads(line), may_be_missing=DECLARED))
        state = scene.evacuate(incident_id=scene.home.name)
        assert state.name == "Verified", state.message
        return
    stored = {key.key for key in scene.store.list("")}
    assert any(key.endswith(f"/containers/{name}/from~root/data/voices/anna/model.onnx") for key in stored)
    assert not [key for key in stored if key.startswith("latest/") and "model.onnx" in key]
    left = {
        row["name"]: row["reason"]
        for row in json.loads((scene.home / "evidence/not_taken.json").read_bytes())["not_taken"]
    }
    assert f"containers/{name}/data/voices/anna/vocab" in left
    assert "of which patterns name /data/voices alone" in left[f"containers/{name}/data/"]
