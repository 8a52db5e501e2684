"""What the bench of fleets is played on: the plant, deployments, and what is read from its server."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from benchmarks.machine import spent_by
from benchmarks.recorder import Recorder
from blocks import EvidenceStore, Fleet, SigningKey, Workload
from tasks.custody.incident.deployment_names import full_name
from tasks.deployment.register import DeploymentTarget, deploy_all, deploy_fleet
from tasks.drill.deployment import POOL
from tasks.drill.fleet_servers import Plant
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.polling import poll_until

REAL: Final = ("real1", "real2", "real3")
_END_SECONDS: Final = 400.0
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Stage:
    """The parts of a bench: the plant, and the key that everything is signed with."""

    folder: Path
    plant: Plant
    key: SigningKey


class Recorded(PrefectServer):
    """A server whose clients go through a relay."""

    def __init__(self, folder: Path, relay: Recorder) -> None:
        """Keep the relay."""
        super().__init__(folder)
        self._relay = relay

    @property
    def api(self) -> str:
        """URL of the relay."""
        return self._relay.api


def spent(plant: Plant) -> float:
    """Return the processor seconds of the plant so far."""
    parts = (*plant.replicas, plant.services, plant.database, plant.stream, plant.server)
    return spent_by(*(part.pid for part in parts))


def await_written(plant: Plant) -> None:
    """Wait until the services have dealt with every event."""

    def is_written() -> bool:
        return not any((plant.stream.groups("events") or {"": 1}).values())

    if not poll_until(is_written, _END_SECONDS, _LOOK_SECONDS):
        raise TimeoutError("the services have not caught up with the events")


def deploy(on: Stage, blocks: Mapping[str, Workload], fleet: str) -> float:
    """Save and deploy hosts and a fleet of them; return the seconds that it took."""
    began = time.monotonic()
    for name in blocks:
        (on.folder / "store" / name).mkdir(parents=True, exist_ok=True)
        EvidenceStore(folder=on.folder / "store" / name, signing=on.key).save(name, overwrite=True)
    for name, block in blocks.items():
        block.save(name, overwrite=True)
    list(deploy_all([DeploymentTarget(name, name, block.host) for name, block in blocks.items()], POOL, sys.executable))
    took = time.monotonic() - began
    deploy_only(on, fleet, [*blocks])
    await_written(on.plant)
    return took


def deploy_only(on: Stage, fleet: str, names: Sequence[str]) -> None:
    """Save and deploy a fleet of hosts that are deployed."""
    (on.folder / "store" / fleet).mkdir(exist_ok=True)
    EvidenceStore(folder=on.folder / "store" / fleet).save(fleet, overwrite=True)
    Fleet(workloads=list(names), store=fleet).save(fleet)
    deploy_fleet(fleet, POOL, sys.executable)


def trigger(client: SyncPrefectClient, fleet: str) -> FlowRun:
    """Run the fleet's deployment."""
    deployment = client.read_deployment_by_name(full_name("fleet", fleet))
    return client.create_flow_run_from_deployment(deployment.id, parameters={"reason": "a bench"})


def ended(client: SyncPrefectClient, run: UUID) -> str:
    """Wait for the end of a run; its state's name and message."""

    def look() -> str:
        state = client.read_flow_run(run).state
        return f"{state.name}: {state.message}" if state is not None and state.is_final() else ""

    if found := poll_until(look, _END_SECONDS, _LOOK_SECONDS):
        return found
    raise TimeoutError(f"run {run} has not ended in {_END_SECONDS:g} s")


def own_of(client: SyncPrefectClient, name: str, fleet: str) -> dict[str, str]:
    """Return what is a host's own of all that it says; the id of the fleet's incident is added by its trigger."""
    deployment = client.read_deployment_by_name(full_name("evacuate", name))
    queue = client.read_work_queue_by_name(name, POOL)
    block = client.read_block_document_by_name(name, "workload")
    store = client.read_block_document_by_name(name, "evidence-store")
    ids = {"deployment": deployment.id, "queue": queue.id, "block": block.id, "store": store.id}
    found = {**{what: str(each) for what, each in ids.items()}, "name": name, "pool": POOL}
    return {**found, "limit": f"fleet-send-{fleet}"}


def common_ids(client: SyncPrefectClient) -> frozenset[str]:
    """Return the ids of what all hosts share."""
    blocks = [client.read_block_document_by_name(REAL[0], kind) for kind in ("workload", "evidence-store")]
    kinds = [each for block in blocks for each in (block.block_type_id, block.block_schema_id)]
    return frozenset(map(str, [*kinds, *(flow.id for flow in client.read_flows()), client.read_work_pool(POOL).id]))
