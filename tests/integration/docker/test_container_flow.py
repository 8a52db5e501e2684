"""The whole flow on a container that was started as the runbook starts it."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prefect.client.schemas.objects import State

from blocks.store import EvidenceStore
from flows.recover import recover
from tasks.custody.store.manifest import digest_bytes
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tests.support.containers import API_COMMAND, FILES, IMAGE, Containers
from tests.support.docker_engine import BASE
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.usefixtures("prefect")
DECLARED = ["packages", "artifacts"]


@pytest.fixture
def scene(small: SmallWorkload, s3_block: EvidenceStore, containers: Containers) -> Iterator[Scene]:
    for name in ("models", "artifacts", "logs", "venv"):
        shutil.rmtree(small.root / name)
    scene = Scene(small, s3_block)
    scene.save(workload=containers.block(small, containers=[f"image={IMAGE}"], may_be_missing=DECLARED))
    yield scene
    LinuxHost().release(scene.block.evidence / CORDON)


def docker_run(containers: Containers) -> None:
    """`make docker-run` of the workload, to the letter but for the names of the volumes."""
    command = ["docker", "run", "--rm", "-p", f"127.0.0.1:{containers.port}:8000"]
    command += ["-e", "MODEL_PATH=/app/models/model_builtin.joblib", "--label", f"test={containers.mark}"]
    command += ["-v", f"{containers.mark}-models:/app/models", "-v", f"{containers.mark}-logs:/app/logs"]
    command += ["--detach", "--name", f"{containers.mark}-api", IMAGE]
    subprocess.run(command, env={"DOCKER_HOST": containers.engine.host, "PATH": "/usr/bin:/bin"}, check=True)


def living(containers: Containers) -> list[str]:
    found = containers.client.containers(all=True, filters={"ancestor": IMAGE})
    return [container["Names"][0] for container in found]


def test_a_container_as_the_runbook_starts_it_is_evacuated_and_comes_back_with_every_option_and_its_model(
    scene: Scene, containers: Containers, small: SmallWorkload
) -> None:
    docker_run(containers)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    name = f"{containers.mark}-api"
    command = ["docker", "exec", name, "sh", "-c", "echo 'intruder = 1' >/app/extra.py; echo K=1 >/app/.env"]
    subprocess.run(command, env={"DOCKER_HOST": containers.engine.host, "PATH": "/usr/bin:/bin"}, check=True)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert living(containers) == []
    folder = scene.home / "evidence"
    assert "the files of 1 image" in str(state.message)
    stored = {key.key for key in scene.store.list("incidents/")}
    assert any(key.endswith(f"/containers/{name}/changed/app/extra.py") for key in stored)
    left = {row["name"] for row in json.loads((folder / "not_taken.json").read_bytes())["not_taken"]}
    assert {f"containers/{name}/app/.env", f"containers/{name}/image"} <= left
    record = (scene.home / "record/001/verdict.json").read_text()
    assert f"containers/{name}/image (what it has of its image" in record
    assert (folder / "models/model_builtin.joblib").read_bytes() == FILES["models/model_builtin.joblib"]
    assert b"serving" in (folder / f"containers/{name}/container.log").read_bytes()
    assert json.loads((folder / f"containers/{name}/inspect.json").read_bytes())["HostConfig"]["AutoRemove"]
    assert (folder / "logs/train-20260101_000000.log").read_bytes() == b"iteration 1\n"
    (stopped,) = json.loads((scene.home / "record/001/verdict.json").read_bytes())["stop"]["containers"]
    assert (stopped["end"], stopped["removed"]) == ("stopped", True)
    keys = {key.key for key in scene.store.list("latest/")}
    assert "latest/models/model_builtin.joblib" in keys
    assert small.living() == []

    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    recovery = json.loads((scene.home / "record/002/verdict.json").read_bytes())["recovery"]
    assert recovery["container"] == f"{containers.mark}-api"
    assert recovery["model"] == "/app/models/model_builtin.joblib"
    assert recovery["sha256"] == digest_bytes(FILES["models/model_builtin.joblib"])
    assert living(containers) == [f"/{containers.mark}-api"]
    about = containers.client.inspect_container(f"{containers.mark}-api")
    assert about["HostConfig"]["AutoRemove"]
    assert f"{containers.mark}-models:/app/models" in about["HostConfig"]["Binds"]
    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    assert living(containers) == [f"/{containers.mark}-api"]


@pytest.mark.soak
def test_a_container_that_was_left_stopped_is_started_again_and_restarts_as_before(
    scene: Scene, containers: Containers
) -> None:
    id_ = containers.run(API_COMMAND, ports=True, restart_policy={"Name": "always"})
    assert scene.evacuate().name == "Verified"
    assert containers.client.inspect_container(id_)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    state = bring_back(scene)
    assert state.name == "Recovered", state.message
    assert containers.state(id_) == "running"
    assert containers.client.inspect_container(id_)["HostConfig"]["RestartPolicy"]["Name"] == "always"


@pytest.mark.soak
def test_a_container_that_serves_another_model_is_ended_again(scene: Scene, containers: Containers) -> None:
    docker_run(containers)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    assert scene.evacuate().name == "Verified"
    binds = [f"{containers.mark}-models:/app/models"]
    swap = "echo forged >/app/models/model_builtin.joblib; echo done"
    containers.client.remove_container(containers.run(["sh", "-c", swap], image=BASE, binds=binds), force=True)
    state = bring_back(scene)
    assert state.name == "NotRecovered", state.message
    assert "to serve sha256" in str(state.message)
    assert living(containers) == []
    assert containers.client.containers(all=True, filters={"name": f"{containers.mark}-api"}) == []


def bring_back(scene: Scene) -> State:
    return recover(scene.name, scene.name, return_state=True)
