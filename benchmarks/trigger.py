"""`python -m benchmarks.trigger`: how long from an event to a workload that is contained, on a busy machine.

Eight processes compute at normal priority, each in a session of its own, so that the kernel's grouping by session helps
nobody. The clock runs from the moment in which the event `training.failed` is sent to a Prefect server, whose
automation starts the deployment, until all eight are frozen or gone, as seen from outside. Three sides, each with a
server and one worker of its own: both as this project runs them, as root; the same without any right; and Prefect's
defaults, with fewer rounds, because each takes half a minute and only its median counts.

`--side NAME` measures one side and keeps its times; the rows are made of all sides whose times are kept.
"""

import argparse
import json
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.busy import BUSY, WITHOUT_RIGHTS, BusyMachine
from benchmarks.machine import Strangers
from benchmarks.rows import RESULTS, Row, begin, median, quicker, table, under, write
from blocks import EvidenceStore
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.deployment import NAME, POOL, client_of, deploy, prefect
from tasks.drill.screen import say
from tasks.drill.store_and_worker import Worker
from tasks.prefect_side.own_server import PrefectServer
from tasks.prestart.freeze import FLOW
from tasks.readiness.runs import runs_of
from tasks.system.polling import poll_until

ROUNDS: Final = 20
_PEER_ROUNDS: Final = 8
_RANK: Final = 18
CAP_SECONDS: Final = 60.0
_GOALS: Final = {"root": (0.3, 1.0), "no rights": (1.0, 2.5)}
"""Seconds: the median, and the round of this rank."""
_TIMES_QUICKER: Final = {"root": 40.0, "no rights": 1.0}
"""Than Prefect's default, by the medians."""
_KEPT: Final = "trigger-times.json"
_POLL_SECONDS: Final = 0.01
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Side:
    """How server and worker are started, and whether the worker and the deployment are ours or Prefect's."""

    name: str
    prefix: tuple[str, ...]
    ours: bool


SIDES: Final = (
    Side("root", (sys.executable, "-m", "tasks.system.priority"), ours=True),
    Side("no rights", WITHOUT_RIGHTS, ours=True),
    Side("default", (), ours=False),
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
        super().__init__(folder, server, POOL)
        self.side = side

    def command(self) -> Sequence[str]:
        command = [*self.side.prefix, *super().command()]
        theirs = {"flows.cli": ["prefect", "worker", "start", "--type", "process"], "worker": []}
        return command if self.side.ours else [part for word in command for part in theirs.get(word, [word])]


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
        if not side.ours:  # take out what makes a run one process that freezes before it imports Prefect
            with client_of(server) as client:
                deployment = client.read_deployment_by_name(full_name("evacuate", NAME))
                client.update_deployment(deployment.id, DeploymentUpdate(job_variables={}))
        with _Worker(folder / "worker", server, side):
            yield busy, server


def _send(server: PrefectServer) -> float:
    """As a cron job would without Python of ours; when it was sent."""
    occurred = datetime.now(UTC)
    event = {"id": str(uuid4()), "occurred": occurred.isoformat(), "event": "training.failed"}
    body = json.dumps([{**event, "resource": {"prefect.resource.id": f"training.{NAME}"}}]).encode()
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
            (run,) = runs_of(client, full_name(FLOW, NAME), limit=1)
            taken = min(state.timestamp for state in client.read_flow_run_states(run.id) if state.name == "Pending")
            _end(client, run.id)
        _settle(client, run)
    created = run.created or taken
    return Times(created.timestamp() - sent, taken.timestamp() - sent, contained)


def _end(client: SyncPrefectClient, run: UUID) -> None:
    """Kill what the worker starts for a run, by its pid, which the server learns after the freeze."""
    end = time.monotonic() + CAP_SECONDS
    while not (told := client.read_flow_run(run)).infrastructure_pid and time.monotonic() < end:
        if told.state and told.state.is_final():
            return
        time.sleep(_POLL_SECONDS)
    pid = int((told.infrastructure_pid or "0").rpartition(":")[2])
    with suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)] if pid else []
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _settle(client: SyncPrefectClient, run: FlowRun) -> None:
    """The worker tells the server of the end; the next event must not meet that work."""

    def is_over() -> bool:
        state = client.read_flow_run(run.id).state
        return state is None or state.is_final()

    poll_until(is_over, CAP_SECONDS, _LOOK_SECONDS)
    time.sleep(_LOOK_SECONDS)


def rows(seen: Mapping[str, Sequence[Times]]) -> list[Row]:
    """Median and 18th of 20 of our sides, and how many times quicker each is than Prefect's default, by the medians."""
    contained = {name: sorted(each.contained for each in times) for name, times in seen.items()}
    peer = median(contained["default"]) if "default" in contained else None
    found = list[Row]()
    for name in (name for name in _GOALS if name in contained):
        times, (middle, late) = contained[name], _GOALS[name]
        what = f"event to contained, {name}"
        rank = max(1, len(times) * _RANK // ROUNDS)
        found += [
            under(f"{what}, median, s", median(times), middle),
            under(f"{what}, {rank}th of {len(times)}, s", round(times[rank - 1], 2), late),
        ]
        if peer is not None:
            found.append(quicker(f"{what}, median, s", median(times), peer, _TIMES_QUICKER[name]))
    return found


def where(name: str, times: Sequence[Times]) -> str:
    """Where the time goes: medians of its parts."""
    parts = (
        ("event to run", [each.created for each in times]),
        ("run to worker", [each.taken - each.created for each in times]),
        ("worker to frozen", [each.contained - each.taken for each in times]),
    )
    return f"{name}: " + ", ".join(f"{what} {statistics.median(values):.2f} s" for what, values in parts)


def _kept() -> tuple[dict[str, list[Times]], dict[str, float]]:
    """Return the times of sides that were measured apart, and the share of the processors that strangers used."""
    path = RESULTS / _KEPT
    kept = json.loads(path.read_text()) if path.exists() else {"times": {}, "strangers": {}}
    return {name: [Times(*each) for each in times] for name, times in kept["times"].items()}, kept["strangers"]


def _keep(seen: Mapping[str, Sequence[Times]], shares: Mapping[str, float]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = {name: [astuple(each) for each in times] for name, times in seen.items()}
    (RESULTS / _KEPT).write_text(json.dumps({"times": told, "strangers": shares}))


def _sides_of(row: Row, names: Iterable[str]) -> list[str]:
    return [name for name in names if f", {name}," in row.what or (name == "default" and row.peer is not None)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 if every goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    small = "one event, one process, two sides: shows only that it runs"
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument("--side", choices=[side.name for side in SIDES], help="measure this one alone")
    given = parser.parse_args(arguments)
    processes = 1 if given.small else BUSY
    asked = (SIDES[0], SIDES[-1]) if given.small else SIDES
    sides = [side for side in asked if given.side in {None, side.name}]
    folder = begin()
    seen, shares = _kept() if given.side else ({}, {})
    for side in sides:
        rounds, strangers = 1 if given.small else ROUNDS if side.ours else _PEER_ROUNDS, Strangers()
        with stage(folder / side.name.replace(" ", "-"), side, processes) as (busy, server), strangers:
            seen[side.name] = [measure(busy, server) for _ in range(rounds)]
        shares[side.name] = strangers.share
        say(where(side.name, seen[side.name]))
    _keep(seen, shares)
    result = [replace(row, strangers=max(shares[name] for name in _sides_of(row, shares))) for row in rows(seen)]
    told = "; ".join(where(name, times) for name, times in seen.items())
    conditions = f"{os.cpu_count()} processors, {processes} processes compute; {told}"
    write("trigger", result, conditions)
    say(f"{table(result)}\n{conditions}")
    return 0 if all(row.holds for row in result) else 1


if __name__ == "__main__":
    sys.exit(main())
