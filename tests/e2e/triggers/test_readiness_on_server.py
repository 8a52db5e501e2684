"""A doctor on a real server and worker: a canary event becomes a run, and each fault of Prefect's side is named."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkQueue
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from blocks import Fleet
from blocks.workload import Workload
from tasks.custody.incident.deployment_names import deployment_name, full_name
from tasks.custody.incident.readiness import Readiness
from tasks.prefect_side.own_server import PrefectServer
from tasks.prefect_side.saved_blocks import load_block, require_store
from tasks.readiness import canary, runs, server
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import PARTS, examine, name_of
from tasks.system.free_ports import free_ports
from tasks.system.unit_files import stamp
from tests.e2e.triggers.conftest import NAME, Stage
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

LOSS, FATAL = "loss", "fatal"


@dataclass
class Office:
    """Prefect's side of one workload, and what a test may do to it."""

    stage: Stage
    client: SyncPrefectClient
    patient: CheckTarget
    patch: pytest.MonkeyPatch

    def look(self, names: Iterable[str] = ()) -> Readiness:
        """Make the checks of these names, or all that ask the server."""
        checks = [each for each in PARTS["prefect"] if not names or f"prefect/{name_of(each)}" in names]
        return examine(self.patient, {"prefect": checks})

    @property
    def deployment(self) -> dict[str, Any]:
        """The evacuation, as the server has it."""
        return dict(self.stage.http.get(f"/deployments/name/{full_name('evacuate', NAME)}").json())

    def change(self, **fields: Any) -> None:
        """Other fields of the evacuation's deployment."""
        self.stage.post(f"/deployments/{self.deployment['id']}", fields, "PATCH")

    @property
    def queue(self) -> WorkQueue:
        """The evacuation's queue, as the server has it."""
        return self.client.read_work_queue_by_name(self.deployment["work_queue_name"], "evacuation")

    def fleet(self, name: str) -> dict[str, Any]:
        """A deployment of a fleet on a queue of its own, of a pool that no worker polls."""
        flow = self.stage.post("/flows/", {"name": "fleet"})["id"]
        self.stage.post("/work_pools/", {"name": f"pool-{name}", "type": "process"})
        return {
            "name": deployment_name("fleet", name),
            "flow_id": flow,
            "work_pool_name": f"pool-{name}",
            "work_queue_name": f"of-{name}",
        }

    @contextmanager
    def changed(self, **fields: Any) -> Iterator[None]:
        """The same for a while."""
        before = {name: self.deployment[name] for name in fields}
        self.change(**fields)
        yield
        self.change(**before)


@pytest.fixture
def office(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """Canaries are not waited for long; a worker that has just been started is, until it has asked for runs."""
    monkeypatch.setattr(canary, "EVENT_SECONDS", 15.0)
    monkeypatch.setattr(canary, "WORKER_SECONDS", 15.0)
    with temporary_settings({PREFECT_API_URL: stage.server.api}), get_client(sync_client=True) as client:
        target = CheckTarget(NAME, load_block(Workload, NAME), NAME, require_store(NAME).fields)
        made = Office(stage, client, target, monkeypatch)
        wait_until(lambda: made.queue.last_polled is not None, what="the worker's first poll")
        yield made


@contextmanager
def paused_queue(office: Office) -> Iterator[None]:
    queue = office.queue
    office.client.update_work_queue(queue.id, is_paused=True)
    office.patch.setattr(canary, "WORKER_SECONDS", 0.5)
    yield
    office.client.update_work_queue(queue.id, is_paused=False)


@contextmanager
def no_worker(office: Office) -> Iterator[None]:
    office.patch.setattr(canary, "WORKER_SECONDS", 0.5)
    office.patch.setattr(server, "WORKER_GONE_SECONDS", 0.5)
    office.stage.worker.stop()
    yield
    office.stage.worker.start()


@contextmanager
def dead_server(_: Office) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_ports('nobody')['nobody']}/api"}):
        yield


def disabled(name: str) -> Callable[[Office], AbstractContextManager[None]]:
    """An automation that a person has switched off."""

    @contextmanager
    def off(office: Office) -> Iterator[None]:
        office.patch.setattr(canary, "EVENT_SECONDS", 1.0)
        (there,) = office.client.read_automations_by_name(name)
        office.client.pause_automation(there.id)
        yield
        office.client.resume_automation(there.id)

    return off


@contextmanager
def another_block(office: Office) -> Iterator[None]:
    office.patient.workload = office.patient.workload.model_copy(update={"grace_seconds": 6.0})
    yield


def pausing(field: str, name: str) -> Callable[[Office], AbstractContextManager[None]]:
    """A block whose cordon pauses this; `{queue}` is that of the evacuation."""

    @contextmanager
    def named(office: Office) -> Iterator[None]:
        told = name.format(queue=office.deployment["work_queue_name"])
        office.patient.workload = office.patient.workload.model_copy(update={field: [told]})
        yield

    return named


@contextmanager
def another_store(office: Office) -> Iterator[None]:
    office.patient.saved = {**office.patient.saved, "prefix": "elsewhere"}
    yield


@contextmanager
def not_deployed(office: Office) -> Iterator[None]:
    office.patient.name = f"none-{uuid4().hex[:6]}"
    office.patch.setattr(canary, "EVENT_SECONDS", 0.5)
    yield


@contextmanager
def root_worker(office: Office) -> Iterator[None]:
    (unit := office.stage.folder / "evacuation-worker.service").write_text(stamp("[Unit]\n", "evacuation install 1"))
    office.patch.setattr(server, "WORKER_UNIT", unit)
    yield


FORM: dict[str, Any] = {"type": "object", "properties": {}}
FAULTS: dict[str, tuple[Callable[[Office], AbstractContextManager[None]], dict[str, str]]] = {
    "a paused queue": (paused_queue, {"prefect/queue": FATAL, "prefect/canary": FATAL}),
    "a dead worker": (no_worker, {"prefect/worker": FATAL, "prefect/canary": FATAL}),
    "an alarm that is off": (disabled(f"evacuate {NAME}: training.failed"), {"prefect/alarms": LOSS}),
    "silent runs that nobody finds": (disabled(server.SILENT_RUNS), {"prefect/alarms": LOSS}),
    "a canary that starts nothing": (disabled(f"ready {NAME}: a canary"), {"prefect/canary": LOSS}),
    "a parameter that is gone": (
        lambda office: office.changed(parameters={"workload": NAME, "shop": NAME}, enforce_parameter_schema=False),
        {"prefect/deployment": FATAL},
    ),
    "another store": (
        lambda office: office.changed(parameters={"workload": NAME, "store": "b"}),
        {"prefect/deployment": LOSS},
    ),
    "an older form": (
        lambda office: office.changed(
            parameter_openapi_schema={"type": "object", "properties": {}}, enforce_parameter_schema=False
        ),
        {"prefect/deployment": LOSS},
    ),
    "no interpreter": (
        lambda office: office.changed(job_variables={"command": "'/gone/python' -m flows.engine"}),
        {"prefect/deployment": FATAL},
    ),
    "pull steps": (
        lambda office: office.changed(pull_steps=[{"prefect.deployments.steps.set_working_directory": {}}]),
        {"prefect/deployment": FATAL},
    ),
    "another flow": (
        lambda office: office.changed(entrypoint="/srv/evil.py:evacuate"),
        {"prefect/deployment": FATAL},
    ),
    "no password, and a root's worker": (root_worker, {"prefect/credentials": FATAL}),
    "its own pool paused": (pausing("pause_pools", "evacuation"), {"prefect/launchers": FATAL}),
    "its own queue paused": (pausing("pause_queues", "evacuation/{queue}"), {"prefect/launchers": FATAL}),
    "its own deployment paused": (
        pausing("pause_deployments", full_name("evacuate", NAME)),
        {"prefect/launchers": FATAL},
    ),
    "a pool that nobody knows": (pausing("pause_pools", "evacuatoin"), {"prefect/launchers": FATAL}),
    "a queue without its pool": (pausing("pause_queues", "{queue}-training"), {"prefect/launchers": FATAL}),
    "a block that was saved otherwise": (another_block, {"prefect/saved": LOSS}),
    "a store that was saved otherwise": (another_store, {"prefect/saved": LOSS}),
    "nothing deployed": (
        not_deployed,
        {
            "prefect/saved": FATAL,
            "prefect/deployment": FATAL,
            "prefect/queue": LOSS,
            "prefect/launchers": LOSS,
            "prefect/worker": LOSS,
            "prefect/alarms": LOSS,
            "prefect/canary": LOSS,
            "prefect/fleet": LOSS,
        },
    ),
    "a dead server": (
        dead_server,
        {"prefect/server": FATAL, "prefect/worker": LOSS},
    ),
}


def test_a_canary_event_becomes_a_run_of_this_worker(office: Office) -> None:
    found = office.look()
    assert found.weights == {"prefect/credentials": LOSS}, found.message
    told = next(each.found for each in found.findings if each.name == "prefect/canary")
    assert "event to run " in told
    canaries = [run for run in runs.runs_of(office.client, full_name("ready", NAME)) if run.parameters.get("canary")]
    assert {run.name for run in canaries} == {f"canary {NAME}"}, "green, whatever the look at the host has found"
    assert office.stage.incidents == []


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_prefects_side_is_named_and_nothing_else(office: Office, name: str) -> None:
    breaks, weights = FAULTS[name]
    with breaks(office):
        found = office.look(weights)
    assert found.weights == weights, "\n".join(f"{each.name}: {each.found}" for each in found.bad)
    assert all(each.matters and each.cure for each in found.bad)


@pytest.mark.soak
def test_a_server_that_asks_for_credentials_is_sound(office: Office, tmp_path: Path) -> None:
    word, plain = {"PREFECT_SERVER_API_AUTH_STRING": "admin:pass"}, PrefectServer.environment
    office.patch.setattr(PrefectServer, "environment", lambda there: {**plain(there), **word})
    with PrefectServer(tmp_path / "guarded") as guarded:
        told = {PREFECT_API_URL: guarded.api, PREFECT_API_AUTH_STRING: "admin:pass"}
        with temporary_settings(told):
            found = office.look(["prefect/server", "prefect/credentials"])
    assert found.weights == {}, found.message


def test_a_queue_of_trainings_own_is_sound(office: Office) -> None:
    with pausing("pause_queues", "evacuation/{queue}-training")(office):
        (found,) = office.look(["prefect/launchers"]).findings
    assert (found.weight, found.found.startswith("work queue evacuation/")) == ("sound", True), found.found


def test_without_a_server_everything_is_a_loss(office: Office) -> None:
    office.patch.setattr(runs, "own_server", lambda: nullcontext(False))
    found = office.look()
    assert {*found.weights.values()} == {LOSS}
    assert len(found.bad) == len(PARTS["prefect"])


def test_a_fleet_that_cannot_be_triggered_is_found(office: Office) -> None:
    name = f"lab{uuid4().hex[:6]}"
    Fleet(workloads=[NAME], store=NAME).save(name)
    told = list[str]()
    for make in (lambda: None, lambda: office.stage.post("/deployments/", office.fleet(name))):
        make()
        (found,) = office.look(["prefect/fleet"]).findings
        assert found.weight == LOSS
        told.append(found.found)
    Fleet.delete(name)
    assert told == [
        f"{full_name('fleet', name)} or its queue is not deployed",
        f"no worker serves pool-{name}/of-{name}, where {full_name('fleet', name)} waits",
    ]


@pytest.mark.soak
def test_by_hand_the_same_is_told_as_json_with_its_exit_code(stage: Stage) -> None:
    stage.small.start_all()
    command = [sys.executable, "-m", "flows.cli", "doctor", str(stage.toml), "--json"]
    done = subprocess.run(command, env=stage.server.env, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert (told["schema"], told["command"], told["state"]) == (1, "doctor", "Degraded"), done.stdout
    assert done.returncode == told["exit_code"] == 18
    bad = {each["name"] for each in told["findings"] if each["weight"] != "sound"}
    ours = {"prefect/credentials", "workload/declared"}
    assert ours <= bad <= {*ours, "people/notification", "people/drill", "store/signature", "store/clock"}
    assert all(each["cure"] for each in told["findings"] if each["weight"] != "sound")


def test_a_nights_run_looks_at_all_of_it(office: Office) -> None:
    found = examine(office.patient, {"people": PARTS["people"]})
    assert found.weights == {"people/drill": LOSS, "people/notification": LOSS}
    (record := office.stage.evidence / "dry-run/IR-20260101T000000Z/record/001").mkdir(parents=True)
    for verdict, weights in (("NOTCONTAINED", {"people/drill": LOSS}), ("VERIFIED", {})):
        (record / "closing.json").write_text(json.dumps({"verdict": verdict}))
        assert examine(office.patient, {"people": PARTS["people"][:1]}).weights == weights
    office.stage.small.start_all()
    run = office.stage.ended(office.stage.start("ready"))
    kept = {name.removeprefix("evacuation.readiness."): weight for name, weight in run["labels"].items()}
    assert run["state_name"] == "Degraded", run["state"]["message"]
    bad = {"people/notification", "store/signature", "store/clock", "prefect/credentials", "workload/declared"}
    assert {name for name in kept if "/" in name} <= bad
