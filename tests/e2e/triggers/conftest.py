"""One server and one worker for all tests of triggers, deployed from nothing, as an operator does it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.command.commands import invoke
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.deployment import POOL
from tasks.drill.store_and_worker import Worker
from tasks.host.host import LinuxHost
from tasks.prefect_side.own_server import PrefectServer
from tests.support.prefect_http import http_to
from tests.support.workloads import SmallWorkload, wait_until

NAME: Final = "portfolio"
FILE: Final = """
[workload.{name}]
root = "{root}"
lock = "{root}.lock"
evidence_dir = "{evidence}"
api_command = {api}
api_url = "http://127.0.0.1:{port}"
training_command = {training}
grace_seconds = 5
watch_seconds = 0.2
[store.{name}]
folder = "{store}"
"""
RUN_SECONDS: Final = 120.0


class Stage:
    """A Prefect server, a worker, and a small workload that is deployed there under NAME."""

    def __init__(self, folder: Path, server: PrefectServer, small: SmallWorkload) -> None:
        """Write the file that an operator would write."""
        self.folder, self.server, self.small = folder, server, small
        self.worker = Worker(folder / "worker", server, POOL)
        self.evidence, self.toml = folder / "evidence", folder / "evacuation.toml"
        (folder / "store").mkdir()
        api, training = json.dumps(small.api_command), json.dumps(small.training_command)
        places = {"root": small.root, "evidence": self.evidence, "store": folder / "store", "port": small.port}
        self.toml.write_text(FILE.format(name=NAME, api=api, training=training, **places))
        self.http = http_to(server.api)

    def deploy(self, *arguments: str) -> str:
        """`evacuation deploy evacuation.toml`."""
        command = [sys.executable, "-m", "flows.cli", "deploy", str(self.toml), *arguments]
        return self.run(command).stdout

    def run(self, command: Sequence[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command of an operator, whose shell knows the server."""
        done = subprocess.run(
            command, env={**self.server.env, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def post(self, path: str, said: Any = None, how: str = "POST") -> Any:
        """What the server answers; one that is busy is asked again, as Prefect's own clients do."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(self.http.request(how, path, json={} if said is None else said))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(answered, what=f"an answer to {path}")
        assert answers[-1].is_success, answers[-1].text
        return answers[-1].json() if answers[-1].content else None

    def raise_alarm(self, times: int = 1, **payload: object) -> None:
        """`training.failed`, so many times at once."""
        event = {"event": "training.failed", "resource": {"prefect.resource.id": f"training.{NAME}"}}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        alarm = {**event, "occurred": now, "payload": payload}
        self.post("/events", [{**alarm, "id": str(uuid4())} for _ in range(times)])

    def runs(self, flow: str = "evacuate", known: Iterable[str] = ()) -> list[dict[str, Any]]:
        """All runs of a flow, but for those that are known already."""
        asked = {"flows": {"name": {"any_": [flow]}}, "limit": 200}
        return [run for run in self.post("/flow_runs/filter", asked) if run["id"] not in set(known)]

    def start(self, flow: str, **parameters: object) -> str:
        """Run a deployment as a person does; the id of the run."""
        deployment = self.http.get(f"/deployments/name/{full_name(flow, NAME)}").json()["id"]
        return str(self.post(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    def ended(self, run: str | UUID, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait for the end of a run."""
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(self.http.get(f"/flow_runs/{run}").json())
            return found["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        wait_until(over, seconds, what=f"the end of run {run}")
        return found

    def all_ended(self, count: int, known: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Wait until so many new evacuations are there and have ended."""
        known = set(known)
        try:
            wait_until(lambda: len(self.runs(known=known)) >= count, 300, what=f"{count} runs")
        except AssertionError as error:
            asked = {"filter": {"event": {"prefix": ["prefect.automation.action"]}}}
            raise AssertionError(f"{error}: {self.post('/events/filter', asked)['events'][:4]}") from error
        return [self.ended(run["id"]) for run in self.runs(known=known)]

    def settled(self) -> None:
        """Wait until the automations have seen every event up to now: a sentinel's own run is there."""
        mark = f"sentinel.{uuid4().hex}"
        resource = {"prefect.resource.id": mark}
        deployment = self.http.get(f"/deployments/name/{full_name('audit', NAME)}").json()["id"]
        trigger = {"type": "event", "match": resource, "expect": [mark], "posture": "Reactive", "threshold": 1}
        action = {"type": "pause-deployment", "source": "selected", "deployment_id": deployment}
        about = {"name": mark, "description": "", "enabled": True, "trigger": trigger, "actions": [action]}
        made = self.post("/automations/", about)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = {"event": mark, "occurred": now, "resource": resource, "payload": {}}

        def seen() -> bool:
            self.post("/events", [{**event, "id": str(uuid4())}])
            return bool(self.http.get(f"/deployments/{deployment}").json()["paused"])

        wait_until(seen, 180, what="the sentinel's automation")
        self.post(f"/automations/{made['id']}", how="DELETE")
        self.post(f"/deployments/{deployment}/resume_deployment")

    @property
    def incidents(self) -> list[Path]:
        """Folders of the incidents on this host."""
        return sorted(self.evidence.glob("IR-*"))

    def triggers(self, home: Path) -> list[str]:
        """Runs that are kept with an incident: in its custody log, or left with it for the next run to take over."""
        entries = [json.loads(line) for line in (home / "custody.jsonl").read_text().splitlines()]
        logged = [entry["object"] for entry in entries if entry["action"] == "triggered"]
        return sorted({*logged, *(path.stem for path in (home / "triggers").glob("*.json"))})

    @property
    def family(self) -> list[psutil.Process]:
        """The worker, and the processes of the runs that it has started."""
        keeper = psutil.Process(self.worker.pid)
        return [keeper, *keeper.children(recursive=True)]

    def uncordon(self) -> None:
        """`evacuation uncordon evacuation.toml`, without a new interpreter."""
        with temporary_settings({PREFECT_API_URL: self.server.api}):
            assert invoke(["uncordon", str(self.toml)]) == 0


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything up and deployed; a name with a space in it, as elsewhere."""
    folder = tmp_path_factory.mktemp("trig gers")
    with SmallWorkload(folder / "work load") as small, PrefectServer(folder / "prefect") as server:
        made = Stage(folder, server, small)
        made.deploy()
        with made.http, made.worker:
            yield made
        LinuxHost().release(made.evidence / "cordon.json")


@pytest.fixture
def known(stage: Stage) -> set[str]:
    """A workload at work under no cordon, with no evacuation under way; the runs that there were before."""
    stage.uncordon()
    stage.small.start_all()
    return {run["id"] for run in stage.runs()}
