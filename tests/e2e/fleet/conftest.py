"""One server, one worker, and a fleet of two small workloads that are there and one whose host does not answer."""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema

from blocks import EvidenceStore, Fleet, SigningKey
from flows.evacuate import evacuate
from flows.fleet import fleet, fleet_thaw
from flows.thaw import thaw
from tasks.custody.incident.deployment_names import deployment_name, full_name
from tasks.drill.deployment import POOL
from tasks.drill.store_and_worker import Worker
from tasks.host.host import LinuxHost
from tasks.prefect_side.own_server import PrefectServer
from tests.support.prefect_http import http_to
from tests.support.workloads import SmallWorkload, wait_until

FLEET: Final = "lab"
HERE: Final = ("gpu1", "gpu2")
AWAY: Final = "gpu3"
RUN_SECONDS: Final = 120.0


class QueueWorker(Worker):
    """A worker that serves the queues of this host and of fleets, and no other host's."""

    def command(self) -> Sequence[str]:
        """Return the command."""
        queues = ("fleet", socket.gethostname())
        return [*super().command(), *(word for queue in queues for word in ("--work-queue", queue))]


class Lab:
    """The server, its worker and the fleet."""

    def __init__(self, folder: Path, server: PrefectServer, small: dict[str, SmallWorkload], key: SigningKey) -> None:
        """Save the blocks and make the deployments, as `evacuation deploy` does."""
        self.folder, self.server, self.small = folder, server, small
        self.worker = QueueWorker(folder / "worker", server, POOL, {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"})
        self.http = http_to(server.api)
        self.store = folder / "store"
        with temporary_settings({PREFECT_API_URL: server.api}):
            self._deploy(key)

    def _deploy(self, key: SigningKey) -> None:
        self.store.mkdir()
        EvidenceStore(folder=self.store, signing=key).save("fleet")
        self.deployments = dict[str, UUID]()
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            for name, small in self.small.items():
                place = self.store / name
                place.mkdir()
                EvidenceStore(folder=place, signing=key).save(name)
                host = socket.gethostname() if name in HERE else "elsewhere"
                evidence = self.folder / f"evidence-{name}"
                small.block(host=host, evidence_dir=evidence, incident_suffix=name, ask_seconds=60).save(name)
                about = {"workload": name, "store": name}
                self._deployment(client, evacuate, name, host, about)
                self._deployment(client, thaw, name, host, about)
            Fleet(workloads=[*self.small], store="fleet", order_seconds=3600).save(FLEET)
            for flow in (fleet, fleet_thaw):
                self._deployment(client, flow, FLEET, "fleet", {"fleet": FLEET})

    def _deployment(self, client: Any, flow: Any, name: str, queue: str, about: dict[str, Any]) -> None:
        job = {"command": f"'{sys.executable}' -m flows.engine"} if flow is evacuate else {}
        made = client.create_deployment(
            client.create_flow(flow),
            deployment_name(flow.name, name),
            entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
            work_pool_name=POOL,
            work_queue_name=queue,
            parameters=about,
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            job_variables=job,
            tags=["cluster"],
            path=".",
        )
        self.deployments[full_name(flow.name, name)] = made

    def change(self, **fields: Any) -> None:
        """Save the fleet's block with these fields."""
        with temporary_settings({PREFECT_API_URL: self.server.api}):
            given: dict[str, Any] = {"workloads": [*self.small], "store": "fleet"}
            Fleet(**{**given, **fields}).save(FLEET, overwrite=True)

    def start(self, deployment: str = full_name("fleet", FLEET), **parameters: object) -> str:
        """Run a deployment as a person does; the id of the run."""
        path = f"/deployments/{self.deployments[deployment]}/create_flow_run"
        return str(self.post(path, {"parameters": parameters})["id"])

    def ask(self, path: str, said: Any = None) -> httpx.Response:
        """What the server answers; one that is busy is asked again, as Prefect's own clients do."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(self.http.get(path) if said is None else self.http.post(path, json=said))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(answered, what=f"an answer to {path}")
        return answers[-1]

    def post(self, path: str, said: Any) -> Any:
        """What it makes of a request that it takes."""
        answer = self.ask(path, said)
        assert answer.is_success, answer.text
        return answer.json()

    def run(self, run: str) -> dict[str, Any]:
        """A run, as the server tells of it."""
        return dict(self.ask(f"/flow_runs/{run}").json())

    def hosts(self, fleet_id: str) -> dict[str, dict[str, Any]]:
        """The latest run of each host for an incident of the fleet."""
        asked = {"flow_runs": {"tags": {"all_": [f"fleet:{fleet_id}"]}}, "flows": {"name": {"any_": ["evacuate"]}}}
        runs = self.post("/flow_runs/filter", asked)
        ordered = sorted(runs, key=lambda run: run["parameters"]["order"]["attempt"])
        return {run["parameters"]["order"]["host"]: run for run in ordered}

    def opened(self, since: str = "") -> str:
        """Wait for the open incident of the fleet; its id."""
        found = dict[str, str]()

        def there() -> bool:
            answer = self.ask(f"/variables/name/fleet_{FLEET}")
            found.update(answer.json()["value"] if answer.is_success else {})
            return found.get("fleet", since) != since

        wait_until(there, RUN_SECONDS, "an open incident")
        return found["fleet"]

    def ended(self, run: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait for the end of a run."""
        wait_until(
            lambda: self.run(run)["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"},
            seconds,
            f"the end of run {run}",
        )
        return self.run(run)

    def release(self) -> None:
        """Lift the cordons, and start the workloads again."""
        for name in HERE:
            LinuxHost().release(self.folder / f"evidence-{name}" / "cordon.json")
            self.small[name].start_all()


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, signing_key: SigningKey) -> Iterator[Lab]:
    """Everything up."""
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        small = {name: stack.enter_context(SmallWorkload(folder / name)) for name in (*HERE, AWAY)}
        server = stack.enter_context(PrefectServer(folder / "prefect"))
        made = Lab(folder, server, small, signing_key)
        stack.enter_context(made.http)
        stack.enter_context(made.worker)
        stack.callback(lambda: [LinuxHost().release(folder / f"evidence-{name}" / "cordon.json") for name in HERE])
        yield made
