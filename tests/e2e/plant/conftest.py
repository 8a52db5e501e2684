"""A fleet on its plant: PostgreSQL, Redis, two API processes, services apart, and hosts in namespaces of their own."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks import EvidenceStore, Fleet, SigningKey
from tasks.custody.errors import Refused
from tasks.custody.incident.deployment_names import full_name
from tasks.deployment.register import DeploymentTarget, deploy_all, deploy_fleet
from tasks.drill.deployment import POOL
from tasks.drill.fleet_host import FleetHost
from tasks.drill.fleet_servers import Plant
from tasks.drill.plant_stores import haproxy, postgresql, redis
from tests.support.prefect_http import http_to
from tests.support.workloads import wait_until

HOSTS: Final = ("gpu1", "gpu2", "gpu3")
RUN_SECONDS: Final = 120.0
CACHE: Final = Path(__file__).parents[3] / "build/cache"
ENDED: Final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Site:
    """The plant, its hosts, and a fleet for each test."""

    def __init__(self, folder: Path, plant: Plant, key: SigningKey) -> None:
        """Nothing is deployed yet."""
        self.folder, self.plant, self.key = folder, plant, key
        self.hosts = {name: FleetHost(folder, plant.server, POOL, name) for name in HOSTS}
        self.control = FleetHost(folder, plant.server, POOL, "control", ["fleet"])
        self.http = http_to(plant.server.api)

    def deploy(self) -> None:
        """Save and deploy the hosts."""
        blocks = {name: host.block() for name, host in self.hosts.items()}
        for name, block in blocks.items():
            self._store(name)
            block.save(name)
        targets = [DeploymentTarget(name, name, block.host) for name, block in blocks.items()]
        list(deploy_all(targets, POOL, sys.executable))

    def _store(self, name: str) -> None:
        (place := self.folder / "store" / name).mkdir(parents=True, exist_ok=True)
        EvidenceStore(folder=place, signing=self.key).save(name, overwrite=True)

    def fleet(self, name: str, **fields: Any) -> None:
        """Deploy a fleet."""
        self._store(name)
        Fleet(**{"workloads": list(HOSTS), "store": name, **fields}).save(name)
        deploy_fleet(name, POOL, sys.executable)

    def trigger(self, fleet: str, **parameters: Any) -> str:
        """Run a fleet's deployment; the id of the run."""
        deployment = self.http.get(f"/deployments/name/{full_name('fleet', fleet)}").json()["id"]
        return str(self.post(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    @contextmanager
    def held_up(self, host: str) -> Iterator[None]:
        """A host that takes no order meanwhile."""
        queue = self.http.get(f"/deployments/name/{full_name('evacuate', host)}").json()["work_queue_id"]
        for is_paused in (True, False):
            assert self.http.patch(f"/work_queues/{queue}", json={"is_paused": is_paused}).is_success
            if is_paused:
                yield

    def post(self, path: str, said: Any) -> Any:
        """What the server answers."""
        answer = self.http.post(path, json=said)
        assert answer.is_success, answer.text
        return answer.json()

    def run(self, run: str) -> dict[str, Any]:
        """A run, as the server tells of it."""
        return dict(self.http.get(f"/flow_runs/{run}").json())

    def ended(self, run: str) -> tuple[str, str]:
        """Wait for a run's end; name and message of its state."""
        wait_until(lambda: self.run(run)["state_type"] in ENDED, RUN_SECONDS, f"the end of run {run}")
        return self.run(run)["state_name"], self.run(run)["state"]["message"]

    def runs_of(self, fleet: str) -> list[dict[str, Any]]:
        """All runs that were ordered for a fleet, the oldest first."""
        found = self.post("/flow_runs/filter", {"flows": {"name": {"any_": ["evacuate"]}}, "limit": 200})
        of_fleet = [run for run in found if f"-{fleet}-" in str(run["parameters"].get("order", {}).get("fleet"))]
        return sorted(of_fleet, key=lambda run: run["created"])

    def workers(self) -> set[str]:
        """Workers that the server has heard of."""
        return {each["name"] for each in self.post(f"/work_pools/{POOL}/workers/filter", {"limit": 200})}

    def stands(self, host: str) -> bool:
        """Whether the whole workload of a host is stopped."""
        return {each.status() for each in self.hosts[host].living()} == {psutil.STATUS_STOPPED}

    def fresh(self) -> None:
        """Every host boots, as often as needed: its workload is at work under no cordon."""
        for host in self.hosts.values():
            host.stop()
            (host.folder / "evidence/cordon.json").unlink(missing_ok=True)
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(FleetHost.start, self.hosts.values()))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, signing_key: SigningKey) -> Iterator[Site]:
    """Everything up and deployed; no host is."""
    try:
        postgresql(), redis(), haproxy()
    except Refused as reason:
        pytest.skip(str(reason))
    folder = tmp_path_factory.mktemp("plant")
    with ExitStack() as parts:
        plant = parts.enter_context(Plant(folder / "plant", CACHE))
        made = Site(folder, plant, signing_key)
        parts.enter_context(made.http)
        for host in (*made.hosts.values(), made.control):
            parts.callback(host.stop)
        with temporary_settings({PREFECT_API_URL: plant.server.api}):
            made.deploy()
        made.control.start()
        yield made


@pytest.fixture(autouse=True)
def _served(site: Site) -> Iterator[None]:
    """The plant's server is the one of every test here."""
    with temporary_settings({PREFECT_API_URL: site.plant.server.api}):
        yield


@pytest.fixture
def hosts(site: Site) -> Site:
    """All hosts up, and their workloads at work."""
    site.fresh()
    return site
