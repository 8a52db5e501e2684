"""`python -m benchmarks.trigger`: how long from an event to a workload that is contained, on a busy machine.

Eight processes compute at normal priority, each in a session of its own, so that the kernel's grouping by session helps
nobody. The clock runs from the moment in which the event `training.failed` is sent to a Prefect server, whose
automation starts the deployment, until all eight are frozen or gone, as seen from outside. Three sides, each with a
server and one worker of its own: both as this project runs them, as root; the same without any right; and Prefect's
defaults.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.busy import BUSY, WITHOUT_RIGHTS, BusyMachine
from benchmarks.machine import Strangers
from benchmarks.rows import RESULTS, Row, median, quicker, table, under, with_strangers, write
from blocks import EvidenceStore
from tasks.adapters.prefect_server import PrefectServer
from tasks.drill.deployment import NAME, POOL, client_of, deploy, prefect
from tasks.drill.parts import Worker
from tasks.drill.screen import say

ROUNDS: Final = 10
CAP_SECONDS: Final = 60.0
_GOAL_SECONDS: Final = 2.5
_TIMES_QUICKER: Final = 4.0
_POLL_SECONDS: Final = 0.01
_LOOK_SECONDS: Final = 0.5
_EVENT: Final = "training.failed"
_RESOURCE: Final = f"training.{NAME}"


@dataclass(frozen=True)
class Side:
    """How server and worker are started, how often the worker asks, and whether a run is one process that freezes."""

    name: str
    prefix: tuple[str, ...]
    seconds: str
    ours: bool


SIDES: Final = (
    Side("root", (sys.executable, "-m", "tasks.system.priority"), "1", ours=True),
    Side("no rights", WITHOUT_RIGHTS, "1", ours=True),
    Side("default", (), "10", ours=False),
)


@dataclass(frozen=True)
class Times:
    """Seconds from the event: the run was there, a worker had it in hand, everything was frozen."""

    created: float
    taken: float
    contained: float


class _Server(PrefectServer):
    def __init__(self, folder: Path, side: Side) -> None:
        super().__init__(folder)
        self.side = side

    def command(self) -> Sequence[str]:
        return [*self.side.prefix, *super().command()]


class _Worker(Worker):
    def __init__(self, folder: Path, server: PrefectServer, side: Side) -> None:
        super().__init__(folder, server, POOL, {"PREFECT_WORKER_QUERY_SECONDS": side.seconds})
        self.side = side

    def command(self) -> Sequence[str]:
        return [*self.side.prefix, *super().command()]


@contextmanager
def stage(folder: Path, side: Side, processes: int = BUSY) -> Iterator[tuple[BusyMachine, PrefectServer]]:
    """A server and a worker of this side's, with the deployment and its automation."""
    busy = BusyMachine(folder, processes)
    with _Server(folder / "prefect", side) as server:
        (folder / "store").mkdir()
        prefect(server, "block", "register", "-m", "blocks")
        with temporary_settings({PREFECT_API_URL: server.api}):
            EvidenceStore(folder=folder / "store").save(NAME)
            busy.block().save(NAME)
        deploy(server)
        if not side.ours:
            _as_prefect_does(server)
        with _Worker(folder / "worker", server, side):
            yield busy, server


def _as_prefect_does(server: PrefectServer) -> None:
    """Take out what makes a run one process that freezes before it imports Prefect."""
    with client_of(server) as client:
        deployment = client.read_deployment_by_name(f"evacuate/{NAME}")
        client.update_deployment(deployment.id, DeploymentUpdate(job_variables={}))


def _send(server: PrefectServer) -> float:
    """As a cron job would without Python of ours; when it was sent."""
    occurred = datetime.now(UTC)
    event = {"id": str(uuid4()), "occurred": occurred.isoformat(), "event": _EVENT}
    body = json.dumps([{**event, "resource": {"prefect.resource.id": _RESOURCE}}]).encode()
    request = urllib.request.Request(  # noqa: S310  our own server, on loopback
        f"{server.api}/events", body, {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=CAP_SECONDS):
        return occurred.timestamp()


def measure(busy: BusyMachine, server: PrefectServer) -> Times:
    """One event. The run is ended where it stands once everything is frozen: what comes then, other benches tell."""
    with client_of(server) as client:
        with busy.at_work():
            sent = _send(server)
            while not busy.at_rest() and time.time() < sent + CAP_SECONDS:
                time.sleep(_POLL_SECONDS)
            contained = time.time() - sent
            run = client.read_flow_runs(limit=1, sort=FlowRunSort.EXPECTED_START_TIME_DESC)[0]
            taken = min(state.timestamp for state in client.read_flow_run_states(run.id) if state.name == "Pending")
            _end(run)
        _settle(client, run)
    created = run.created or taken
    return Times(created.timestamp() - sent, taken.timestamp() - sent, contained)


def _end(run: FlowRun) -> None:
    """Kill what the worker started for a run, by its pid."""
    pid = int((run.infrastructure_pid or "0").rpartition(":")[2])
    with suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)] if pid else []
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _settle(client: SyncPrefectClient, run: FlowRun) -> None:
    """The worker tells the server of the end; the next event must not meet that work."""
    end = time.monotonic() + CAP_SECONDS
    while time.monotonic() < end:
        state = client.read_flow_run(run.id).state
        if state is None or state.is_final():
            break
        time.sleep(_LOOK_SECONDS)
    time.sleep(_LOOK_SECONDS)


def rows(seen: Mapping[str, Sequence[Times]]) -> list[Row]:
    """Median and worst of each side; the goals are for root, what goes without rights is told beside it."""
    middle = {name: median(each.contained for each in times) for name, times in seen.items()}
    worst = {name: round(max(each.contained for each in times), 2) for name, times in seen.items()}
    peer, told, worst_of = middle["default"], [], f"worst of {len(seen['default'])}"
    for name, what, figures in (
        ("root", worst_of, worst),
        ("no rights", "median", middle),
        ("no rights", worst_of, worst),
    ):
        if name in seen:
            one, other = figures[name], figures["default"]
            label = f"event to contained, {name}, {what}, s"
            told.append(Row(label, one, other, round(other / one, 2), "-", holds=True))
    goal = "event to contained, root, median, s"
    return [under(goal, middle["root"], _GOAL_SECONDS), quicker(goal, middle["root"], peer, _TIMES_QUICKER), *told]


def where(name: str, times: Sequence[Times]) -> str:
    """Where the time goes: medians of its parts."""
    parts = (
        ("event to run", [each.created for each in times]),
        ("run to worker", [each.taken - each.created for each in times]),
        ("worker to frozen", [each.contained - each.taken for each in times]),
    )
    return f"{name}: " + ", ".join(f"{what} {statistics.median(values):.2f} s" for what, values in parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 if every goal holds."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="one event, one process, two sides: shows only that it runs"
    )
    small = parser.parse_args(arguments).small
    rounds, processes, sides = (1, 1, (SIDES[0], SIDES[-1])) if small else (ROUNDS, BUSY, SIDES)
    folder = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    seen, strangers = dict[str, list[Times]](), Strangers()
    for side in sides:
        with stage(folder / side.name.replace(" ", "-"), side, processes) as (busy, server), strangers:
            seen[side.name] = [measure(busy, server) for _ in range(rounds)]
        say(where(side.name, seen[side.name]))
    result = with_strangers(rows(seen), strangers)
    conditions = f"{os.cpu_count()} processors, {processes} processes compute; " + "; ".join(
        where(name, times) for name, times in seen.items()
    )
    write("trigger", result, conditions)
    say(f"{table(result)}\n{conditions}")
    return 0 if all(row.holds for row in result) else 1


if __name__ == "__main__":
    sys.exit(main())
