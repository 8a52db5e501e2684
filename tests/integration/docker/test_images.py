"""The images of this repository: the sample workload as the runbook starts it, and a worker that evacuates its host."""

import re
import socket
import subprocess
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect_aws import AwsCredentials

from blocks.store import EvidenceStore
from tasks.custody.incident.exit_codes import REFUSED
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tests.integration.docker.conftest import IMAGES, OURS, PROJECT, Image
from tests.support.containers import Containers
from tests.support.docker_engine import BASE, DockerDaemon
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

SAMPLE = "mlops-sklearn-portfolio:local"
# What a worker in a container must be given to evacuate its host, and nothing else.
RIGHTS = ["--pid", "host", "--network", "host", "--cgroupns", "host", "--cap-add", "SYS_PTRACE", "--cap-add", "KILL"]


def docker(engine: DockerDaemon, *words: str) -> str:
    environment = {"DOCKER_HOST": engine.host, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["docker", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_dockerfiles_name_the_base_and_one_version_of_uv() -> None:
    dockerfiles = [(folder / "Dockerfile").read_text() for folder in IMAGES.values()]
    assert all(f"FROM {BASE}" in text for text in dockerfiles)
    pinned = {version for text in dockerfiles for version in re.findall(r"uv==(\S+)", text)}
    makefile = re.search(r"^UV_VERSION := (\S+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert makefile
    assert pinned == {makefile[1]}


@pytest.mark.soak
def test_the_sample_image_serves_a_model_from_its_volume(containers: Containers, image: Image) -> None:
    engine, volume = containers.engine, f"{containers.mark}-models:/app/models"
    image(SAMPLE)
    train = ["python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "fast"]
    docker(engine, "run", "--rm", "--label", f"test={containers.mark}", "-v", volume, SAMPLE, *train)
    publish = ["-p", f"127.0.0.1:{containers.port}:8000", "--label", f"test={containers.mark}"]
    model = ["--env", "MODEL_PATH=models/model_builtin.joblib"]
    docker(engine, "run", "--rm", "--detach", *publish, *model, "-v", volume, SAMPLE)
    wait_until(lambda: containers.answers("/health"), 60, what="the API's answer")
    assert containers.answers("/health")["model"] == "model_builtin.joblib"
    assert containers.answers("/health")["cols"] == 30
    assert len(containers.answers("/schema")["numeric_columns"]) == 30


@pytest.fixture
def worker_pool(containers: Containers, prefect: None) -> str:  # noqa: ARG001  a fixture cannot be marked
    """A pool of a worker of its own."""
    with get_client(sync_client=True) as client:
        return str(client.create_work_pool(WorkPoolCreate(name=f"{containers.mark}-pool", type="process")).name)


def start_worker(containers: Containers, pool: str, small: SmallWorkload) -> str:
    """A worker in a container, with the folders of the workload at the places that they have on the host."""
    folder = small.root.parent
    settings = ["--env", f"PREFECT_API_URL={PREFECT_API_URL.value()}", "--env", f"EVACUATION_POOL={pool}"]
    mounts = ["-v", f"{folder}:{folder}", "-v", f"{containers.engine.socket}:/var/run/docker.sock"]
    label = ["--label", f"test={containers.mark}", "--name", f"{containers.mark}-worker"]
    return docker(containers.engine, "run", "--detach", *RIGHTS, *label, *settings, *mounts, OURS)


def online(pool: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            return False
    return any(worker.status == "ONLINE" for worker in workers)


@pytest.fixture
def store_block(seaweed: SeaweedFS, credentials: AwsCredentials, prefect: None) -> EvidenceStore:  # noqa: ARG001
    """A store whose credentials are a saved block, as the worker needs it."""
    name = f"w{uuid4().hex[:12]}"
    credentials.save(name)
    keys = AwsCredentials.load(name)
    return EvidenceStore(bucket=seaweed.bucket, prefix=f"test/{name}", endpoint=seaweed.endpoint, credentials=keys)


def test_a_worker_in_a_container_evacuates_its_host(
    containers: Containers, small: SmallWorkload, image: Image, store_block: EvidenceStore, worker_pool: str
) -> None:
    image(OURS)
    small.start_all()
    inside = containers.run(["python3", "counter.py"])
    scene = Scene(small, store_block)
    ours = [f"cwd={PROJECT}"]  # who has started the workload here is not above a run in a container
    block = containers.block(small, docker_host="", api_url=f"http://127.0.0.1:{small.port}", bystanders=ours)
    scene.save(workload=block)
    worker = start_worker(containers, worker_pool, small)
    try:
        wait_until(lambda: online(worker_pool), 60, what="the worker")
        refused = docker(containers.engine, "exec", worker, "sh", "-c", "evacuation install x.toml 2>&1 || echo $?")
        assert "In a container nothing is installed" in refused
        assert refused.endswith(f"\n{REFUSED}")
        state = run_there(scene, worker_pool)
        assert state.startswith("Verified"), state + docker(containers.engine, "logs", worker)[-3000:]
    finally:
        LinuxHost().release(block.evidence / CORDON)
    assert small.living() == []
    assert containers.state(inside) == "exited"
    assert containers.state(worker) == "running"
    assert (scene.home / "evidence/models/model_builtin.joblib").exists()


def run_there(scene: Scene, pool: str) -> str:
    """Trigger the deployment; the name of the state that the run ends in. A run for another host is left alone."""
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("evacuate")
        elsewhere, run = (
            client.create_flow_run_from_deployment(
                client.create_deployment(
                    flow,
                    f"{scene.name}-{queue}",
                    entrypoint="flows.evacuate.evacuate",
                    work_pool_name=pool,
                    work_queue_name=queue,
                    parameters={"workload": scene.name, "store": scene.name},
                )
            ).id
            for queue in ("elsewhere", socket.gethostname())
        )
        wait_until(lambda: is_final(client.read_flow_run(run).state), 120, what="the run's end")
        left = client.read_flow_run(elsewhere).state
        assert left
        assert left.is_scheduled(), left
        state = client.read_flow_run(run).state
        return f"{state.name}: {state.message}" if state else ""


def is_final(state: State | None) -> bool:
    return state is not None and state.is_final()
