"""The runbook's own workload, an S3 server, and a Prefect server with a worker, deployed as an operator does it.

What stands here follows the product; test_seed.py does not, and takes no more from it than `Stage` has.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials

from blocks import EvidenceStore
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.deployment import NAME, POOL, deploy, prefect
from tasks.drill.sample_workload import SampleWorkload, declare
from tasks.drill.store_and_worker import SeaweedFS, Worker
from tasks.host.host import LinuxHost
from tasks.prefect_side.own_server import PrefectServer
from tests.support.prefect_http import http_to
from tests.support.workloads import wait_until

FILE = """
[workload.sample]
root = "{root}"
lock = "{lock}"
evidence_dir = "{evidence}"
api_pattern = "uvicorn .*--port {port}"
training_pattern = "--label {port}"
"""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PREFIX = "mlops-sklearn-portfolio"


class Stage:
    """All parts of the acceptance, and what a person or a stranger does with them."""

    name, bucket_prefix = NAME, PREFIX

    def __init__(self, folder: Path, parts: ExitStack) -> None:
        """Start all, and let `parts` end it."""
        self.store = parts.enter_context(SeaweedFS(folder / "store"))
        self.server = parts.enter_context(PrefectServer(folder / "prefect"))
        self.workload = parts.enter_context(SampleWorkload(folder / "workload", workers=2))
        self.evidence = self.workload.block().evidence
        parts.callback(LinuxHost().release, self.evidence / "cordon.json")
        self.workload.build()
        self.toml = folder / "evacuation.toml"
        self.toml.write_text(FILE.format(evidence=self.evidence, **vars(self.workload)))
        self._save_blocks()
        deploy(self.server)
        self.http = parts.enter_context(http_to(self.server.api))
        declared = declare(folder / "hosts.d", self.workload.block())
        self.worker = parts.enter_context(Worker(folder / "worker", self.server, POOL, declared))
        self._s3 = boto3.client(
            "s3",
            endpoint_url=self.store.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.store.access_key,
            aws_secret_access_key=self.store.secret_key,
        )
        parts.callback(self._s3.close)

    def _save_blocks(self) -> None:
        prefect(self.server, "block", "register", "-m", "blocks")
        with temporary_settings({PREFECT_API_URL: self.server.api}):
            keys = AwsCredentials(aws_access_key_id=self.store.access_key, aws_secret_access_key=self.store.secret_key)
            keys.save(NAME)
            place, saved = f"s3://{self.store.bucket}/{PREFIX}", AwsCredentials.load(NAME)
            EvidenceStore(bucket=place, endpoint=self.store.endpoint, credentials=saved).save(NAME)
            self.workload.block().save(NAME)

    def ask(self, path: str, said: Any = None) -> Any:
        """What Prefect's API answers, once it is not too busy: to a POST if something is said, else to a GET."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(self.http.get(path) if said is None else self.http.post(path, json=said))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(answered, what=f"an answer to {path}")
        assert answers[-1].is_success, answers[-1].text
        return answers[-1].json()

    def deployment(self, flow: str) -> dict[str, Any]:
        """A deployment of the workload, as Prefect's API has it."""
        found: dict[str, Any] = self.ask(f"/deployments/name/{full_name(flow, NAME)}")
        return found

    def start(self, flow: str, **parameters: object) -> str:
        """Run a deployment as the form does; the run's id."""
        said = {"parameters": parameters}
        return str(self.ask(f"/deployments/{self.deployment(flow)['id']}/create_flow_run", said)["id"])

    def type(self, *words: str) -> str:
        """What a command of Prefect's prints."""
        return prefect(self.server, *words)

    def full_name(self, flow: str) -> str:
        """A deployment as `prefect deployment run` names it."""
        return full_name(flow, NAME)

    def run(self, run: str) -> dict[str, Any]:
        """A flow run, as Prefect's API has it."""
        found: dict[str, Any] = self.ask(f"/flow_runs/{run}")
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """A flow run that has ended."""
        wait_until(lambda: self.run(run)["state_type"] in ENDED, 180, what=f"the end of run {run}")
        return self.run(run)

    @staticmethod
    def until(condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, three minutes at most."""
        wait_until(condition, 180, what=what)

    def steps(self, run: str) -> list[dict[str, Any]]:
        """The task runs of a flow run."""
        asked = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200}
        found: list[dict[str, Any]] = self.ask("/task_runs/filter", asked)
        return found

    def settled_steps(self, run: str) -> list[dict[str, Any]]:
        """The task runs of a flow run that has ended; the server hears of the last of them later."""
        known = list[str]()

        def settled() -> bool:
            before, known[:] = list(known), sorted(f"{step['id']} {step['state_type']}" for step in self.steps(run))
            return bool(known) and before == known and not any(line.endswith("RUNNING") for line in known)

        wait_until(settled, what=f"the steps of run {run}")
        return self.steps(run)

    def evacuations(self) -> list[dict[str, Any]]:
        """Every flow run of the deployment of the evacuation."""
        asked = {"deployments": {"id": {"any_": [self.deployment("evacuate")["id"]]}}, "limit": 100}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", asked)
        return found

    def process_of(self, run: str) -> psutil.Process:
        """The process of a flow run, a child of the worker."""
        found = list[psutil.Process]()

        def there() -> bool:
            children = psutil.Process(self.worker.pid).children(recursive=True)
            found[:] = [each for each in children if run in each.environ().values()][:1]
            return bool(found)

        wait_until(there, what=f"the process of run {run}")
        return found[0]

    def at_work(self) -> None:
        """Lift the cordon of the run before, and start API and training."""
        self.workload.end()
        command = [sys.executable, "-P", "-m", "flows.cli", "uncordon", str(self.toml)]
        done = subprocess.run(command, env=self.server.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.workload.start()

    @property
    def incidents(self) -> Sequence[str]:
        """Ids of the incidents on this host, the newest last."""
        return sorted(path.name for path in self.evidence.glob("IR-*"))

    def keys(self, folder: str) -> Sequence[str]:
        """Keys of the bucket below a folder of the prefix, without that."""
        begin = f"{PREFIX}/{folder}"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.store.bucket, Prefix=begin)
        return [each["Key"].removeprefix(begin) for page in pages for each in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """An object below the prefix."""
        body = self._s3.get_object(Bucket=self.store.bucket, Key=f"{PREFIX}/{key}")["Body"]
        with body:
            return bytes(body.read())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything up and deployed, once for all tests of the module."""
    with ExitStack() as parts:
        yield Stage(tmp_path_factory.mktemp("seed"), parts)
