"""Rehearse the evacuation of a fleet: `evacuation drill --fleet`.

The plant (PostgreSQL, Redis, two API processes, services), three hosts, and what goes wrong: one host is dead before
the trigger, one dies when it has just been frozen, and so does an API process. Then the dead hosts come back.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psutil
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials

from blocks import EvidenceStore, Fleet
from flows.drill import NotProven, act_out, folder, require
from tasks.audit.fleet import verify_fleet
from tasks.cli.fleet import fleet_by_hand
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.fleet.host_end import HOST_SILENT_SECONDS, HostEnd, Row
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.deployment.register import DeploymentTarget, deploy_all, deploy_fleet
from tasks.drill.deployment import POOL, client_of
from tasks.drill.fleet_host import FleetHost
from tasks.drill.fleet_servers import Plant
from tasks.drill.screen import say
from tasks.drill.show_retention import allowed_signers, credentials, new_key, write_frame_keys
from tasks.drill.store_and_worker import SeaweedFS
from tasks.fleet.frame import answers_of
from tasks.fleet.opening import the_incident
from tasks.fleet.orders import rows_of
from tasks.prefect_side.saved_blocks import load_block
from tasks.system.files.shared_files import CHECKOUT
from tasks.system.polling import poll_until

FLEET: Final = "drill"
CONTROL: Final = "control"
HOSTS: Final = ("gpu1", "gpu2", "gpu3")
_POLL_SECONDS: Final = 0.2
_FROZEN_SECONDS: Final = 60.0
_DEAD_SECONDS: Final = 200.0


@dataclass(frozen=True)
class FleetStage:
    """The parts of one drill: `hosts` by name."""

    plant: Plant
    store: SeaweedFS
    hosts: dict[str, FleetHost]
    signers: str
    """Line of an allowed_signers file: who signs."""

    def rows(self) -> list[Row]:
        """Return how each host stands, as the server tells."""
        with client_of(self.plant.server) as client:
            return rows_of(client, the_incident(client, FLEET, None))


@contextmanager
def stage(place: Path) -> Iterator[FleetStage]:
    """Start all parts, and end them in any case."""
    with ExitStack() as parts:
        say(f"fleet drill in {place}")
        cache = CHECKOUT / "build/cache" if CHECKOUT else folder().parent
        cache.mkdir(parents=True, exist_ok=True)
        plant = parts.enter_context(Plant(place / "plant", cache))
        say(f"  plant    {plant.server.ui}, PostgreSQL, Redis, {len(plant.replicas)} API processes, services apart")
        store = parts.enter_context(SeaweedFS(place / "store"))
        say(f"  store    {store.endpoint}, bucket {store.bucket}")
        write_frame_keys(place)
        hosts = {name: FleetHost(place, plant.server, POOL, name) for name in HOSTS}
        with temporary_settings({PREFECT_API_URL: plant.server.api}):
            signers = deploy(store, hosts)
            crew = [FleetHost(place, plant.server, POOL, CONTROL, ["fleet"]), *hosts.values()]
            for host in crew:
                parts.callback(host.stop)
            with ThreadPoolExecutor(len(crew)) as pool:
                list(pool.map(FleetHost.start, crew))
            yield FleetStage(plant, store, hosts, signers)


def deploy(store: SeaweedFS, hosts: dict[str, FleetHost]) -> str:
    """Save a workload and a store for each host, and the fleet; deploy them. Returns the line of their signer."""
    key, started = new_key(), time.monotonic()
    credentials(store).save(FLEET)
    keys = AwsCredentials.load(FLEET)
    for name in (FLEET, *hosts):
        place = f"s3://{store.bucket}/{name}"
        EvidenceStore(bucket=place, endpoint=store.endpoint, credentials=keys, signing=key).save(name)
    for name, host in hosts.items():
        host.block().save(name)
    Fleet(workloads=list(hosts), store=FLEET).save(FLEET)
    for line in deploy_all([DeploymentTarget(name, name, name) for name in hosts], POOL, sys.executable):
        say(f"  {line}")
    say(f"  {deploy_fleet(FLEET, POOL, sys.executable)}\n  deployed in {time.monotonic() - started:.1f} s")
    return allowed_signers(key, CONTROL, *hosts)


def dead_before(on: FleetStage, name: str) -> None:
    """Kill a host, and wait until it counts as silent."""
    on.hosts[name].stop()
    say(f"  killed {name}; after {HOST_SILENT_SECONDS:g} s without a sign of life it counts as silent")
    time.sleep(HOST_SILENT_SECONDS)


def dies_frozen(on: FleetStage, name: str) -> None:
    """Kill a host as soon as it is known to be frozen, and one API process with it."""

    def is_frozen() -> bool:
        return any(row.host == name and row.frozen for row in _rows_or_none(on))

    if not poll_until(is_frozen, _FROZEN_SECONDS, _POLL_SECONDS):
        raise NotProven(HostEnd.NOT_CONTAINED, f"{name} was not frozen within {_FROZEN_SECONDS:g} s")
    on.hosts[name].stop()
    for process in psutil.Process(on.plant.replicas[0].pid).children():
        process.kill()
    say(f"  killed {name}, which was frozen, and the API process {on.plant.replicas[0].name}, with -9")


def come_back(on: FleetStage) -> None:
    """Boot the dead hosts: one obeys the order that stands, and the other's run is found to be dead."""
    for name in ("gpu2", "gpu3"):
        on.hosts[name].start()
    say("  gpu2 and gpu3 are back: the order of gpu3 stood; the run of gpu2 died with it, which is seen after 90 s")
    with client_of(on.plant.server) as client:

        def all_ended() -> bool:
            runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["fleet"])))
            return not any(run.state and not run.state.is_final() for run in runs)

        if not poll_until(all_ended, _DEAD_SECONDS, _POLL_SECONDS):
            raise NotProven(HostEnd.UNVERIFIED, f"not every host had an end within {_DEAD_SECONDS:g} s")
    say(f"  gpu2 is {next(row.end for row in on.rows() if row.host == 'gpu2')}")


def _rows_or_none(on: FleetStage) -> list[Row]:
    try:
        return on.rows()
    except Exception:  # noqa: BLE001  there is no incident yet
        return []


def rehearse(on: FleetStage) -> tuple[str, dict[str, Any]]:
    """Evacuate, lose two hosts and an API process, bring the hosts back, and prove that each has its end."""
    dead_before(on, "gpu3")
    began = datetime.now(UTC)
    parameters = {"reason": "drill: credentials leaked", "policy": "graceful", "recover": False}
    with ThreadPoolExecutor(1) as pool:
        died = pool.submit(dies_frozen, on, "gpu2")
        say(f"$ evacuation fleet run {FLEET}")
        fleet_by_hand("run", FLEET, None, parameters, as_json=False)
        died.result()
    ends = {row.host: row.end for row in on.rows()}
    require(ends["gpu1"] is HostEnd.VERIFIED, HostEnd.UNVERIFIED, "gpu1 is verified, whatever happened to the others")
    require(ends["gpu3"] is HostEnd.SILENT, HostEnd.UNVERIFIED, "gpu3 is named as silent")
    is_gone = ends["gpu2"] in {HostEnd.SILENT, HostEnd.CRASHED}
    require(is_gone, HostEnd.UNVERIFIED, f"gpu2, frozen and dead, is {ends['gpu2']}")
    come_back(on)
    say(f"$ evacuation fleet retry {FLEET}")
    fleet_by_hand("retry", FLEET, None, parameters, as_json=False)
    rows = on.rows()
    remaining = [str(process.pid) for host in on.hosts.values() for process in host.living()]
    require(not remaining, HostEnd.NOT_CONTAINED, f"no process of any workload is left{': '.join(['', *remaining])}")
    with client_of(on.plant.server) as client:
        incident = the_incident(client, FLEET, None)
        frozen = next((each.at for each in answers_of(client, incident) if each.host == "gpu1"), None)
    facts = facts_of(rows, began, frozen) | {"incident": incident.id}
    audit = verify_fleet(load_block(EvidenceStore, FLEET), incident.id, read_signers(on.signers), deep=False)
    is_proven = audit.word is AuditWord.PROVEN
    found = [f"{each.object}: {each.what}" for each in audit.findings if not is_proven]
    words = "; ".join([audit.word, *found])
    require(is_proven, HostEnd.UNVERIFIED, f"the fleet's record, from the store alone: {words}")
    word = next((str(row.end) for row in rows if row.end is not HostEnd.VERIFIED), str(HostEnd.VERIFIED))
    return word, facts


def facts_of(rows: list[Row], began: datetime, frozen: datetime | None) -> dict[str, Any]:
    """Return the figures of the last line, in seconds from the trigger. `frozen` says when the living host was."""
    seconds = (frozen - began) / timedelta(seconds=1) if frozen else -1.0
    return {"hosts": len(rows), "frozen_s": seconds, "total_s": (datetime.now(UTC) - began).total_seconds()}


def fleet_drill_by_hand() -> int:
    """Run the drill; return the exit code of its end. Raises Refused."""
    place = folder() / f"fleet-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    return act_out(place, stage(place), rehearse, EXIT_CODES)
