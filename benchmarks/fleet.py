"""`python -m benchmarks.fleet`: a fleet on its plant: three real hosts, then 20, 50, 100 that speak as a real one does.

One real host is recorded on its way to the server; the others play that, each with a deployment, a queue and a run of
its own, and hear of their runs by events as the worker does. A run of fleet/NAME orders them. The clock runs from the
trigger; processor seconds are those of PostgreSQL, Redis, the API processes and the services, and none of the hosts.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import psutil
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled

from benchmarks import fleet_stage as stage
from benchmarks.fleet_store import LISTED, store_rows
from benchmarks.machine import Strangers
from benchmarks.recorder import Recorder
from benchmarks.rows import RESULTS, Row, begin, table, under, with_strangers, write
from benchmarks.simulated import Script, Simulated, play_all, script_of
from blocks import Workload
from tasks.custody.audit.signers import read_signers
from tasks.custody.fleet.host_order import new_fleet_id
from tasks.deployment.register import make_pool
from tasks.drill.deployment import POOL, client_of
from tasks.drill.fleet_host import FleetHost
from tasks.drill.fleet_servers import Plant
from tasks.drill.screen import say
from tasks.drill.show_retention import new_key, write_frame_keys
from tasks.fleet.opening import the_incident
from tasks.fleet.orders import rows_of
from tasks.system.installation import FLEET_SIGNERS
from tasks.system.parallel import side_by_side

SIZES: Final = (20, 50, 100)
_FREEZE_LOOK_SECONDS: Final = 0.01
_AT_ONCE: Final = 10
_GOAL_FREEZES: Final = 10.0
_GOAL_EVACUATIONS: Final = 0.8


@dataclass(frozen=True)
class Measured:
    """One trigger: seconds from it until each host was frozen, until the last had ended; what the plant spent."""

    frozen: Sequence[float]
    ended: float
    to_freeze: float
    """Processor seconds of the plant until the last freeze."""
    whole: float
    """The same until everything was written that the hosts had told."""
    errors: Sequence[str] = ()


def real_hosts(on: stage.Stage) -> tuple[Measured, Script]:
    """Evacuate three real hosts, and record the first."""
    with Recorder(on.plant.server.port) as relay, ExitStack() as parts:
        servers = [stage.Recorded(on.folder, relay), on.plant.server, on.plant.server]
        hosts = [FleetHost(on.folder, server, POOL, name) for server, name in zip(servers, stage.REAL, strict=True)]
        stage.deploy(on, {host.name: host.block() for host in hosts}, "real")
        for host in hosts:
            parts.callback(host.stop)
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(FleetHost.start, hosts))
        stage.await_written(on.plant)
        with client_of(on.plant.server) as client:
            workloads = [process for host in hosts for process in host.living()]
            before, run = stage.spent(on.plant), stage.trigger(client, "real")
            began = (run.created or datetime.now(UTC)).timestamp()
            frozen = await_frozen(workloads) - began
            say(f"three real hosts: {stage.ended(client, run.id)}")
            stage.await_written(on.plant)
            incident = the_incident(client, "real", None)
            rows = rows_of(client, incident)
            own = {**stage.own_of(client, stage.REAL[0], "real"), "run": rows[0].run, "fleet": incident.id}
            script = script_of(list(relay.asked), own, stage.common_ids(client))
        last = max(row.ended.timestamp() - began for row in rows if row.ended)
        return Measured([frozen], last, 0.0, stage.spent(on.plant) - before), script


def await_frozen(processes: Sequence[psutil.Process]) -> float:
    """Wait until all are stopped or gone, as seen from outside; the time."""
    left = list(processes)
    while left := [process for process in left if _computes(process)]:
        time.sleep(_FREEZE_LOOK_SECONDS)
    return time.time()


def _computes(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_STOPPED
    return False


def whole(on: stage.Stage, script: Script, fleet: str, names: Sequence[str]) -> Measured:
    """Order simulated hosts by their fleet's flow, and let them go all the way."""
    with client_of(on.plant.server) as client:
        signers = read_signers((on.folder / FLEET_SIGNERS.name).read_text())
        owns = [stage.own_of(client, name, fleet) for name in names]
        hosts = [Simulated(script, own, on.plant.server.api, signers=signers) for own in owns]
        runs = list[FlowRun]()

        def begin() -> None:
            runs.append(stage.trigger(client, fleet))
            for host in hosts:
                host.own["fleet"] = new_fleet_id(runs[0].created or datetime.now(UTC), fleet, str(runs[0].id))

        measured = play(on, hosts, begin)
        say(f"{len(hosts)} simulated hosts: {stage.ended(client, runs[0].id)[:200]}")
        return measured


def to_the_freeze(on: stage.Stage, script: Script, names: Sequence[str]) -> Measured:
    """Order simulated hosts that ask as far as the freeze and no further: what a freeze costs by itself."""
    short = replace(script, asked=script.asked[: script.before_freeze])
    with client_of(on.plant.server) as client:
        owns = [{**stage.own_of(client, name, ""), "fleet": ""} for name in names]
        hosts = [Simulated(short, own, on.plant.server.api) for own in owns]

        def order(host: Simulated) -> UUID:
            return client.create_flow_run_from_deployment(UUID(host.own["deployment"])).id

        made = list[UUID]()
        measured = play(on, hosts, lambda: made.extend(side_by_side(order, hosts, _AT_ONCE)))
        for run in made:
            client.set_flow_run_state(run, Cancelled(), force=True)
        return measured


def play(on: stage.Stage, hosts: Sequence[Simulated], begin: Callable[[], None]) -> Measured:
    """Let all listen, begin, and wait until everything that they tell is written."""
    at = list[tuple[float, float]]()

    def note() -> None:
        at.append((time.time(), stage.spent(on.plant)))

    def noted() -> None:
        note()
        begin()

    asyncio.run(play_all(hosts, noted, note))
    stage.await_written(on.plant)
    note()
    (began, before), (_, frozen), (_, after) = at
    return Measured(
        sorted(host.frozen - began for host in hosts),
        max(host.ended for host in hosts) - began,
        frozen - before,
        after - before,
        [error for host in hosts for error in host.errors],
    )


def rows(real: Measured, only: tuple[int, Measured], seen: Mapping[int, Measured]) -> list[Row]:
    """What came out, against the goals."""
    told = [Row("3 real hosts: last freeze, s", round(real.frozen[-1], 2), None, None, "-", holds=True)]
    for hosts, each in seen.items():
        told.append(under(f"{hosts} hosts by a frame: half frozen, s", round(statistics.median(each.frozen), 2), 1))
        told.append(under(f"{hosts} hosts by a frame: last freeze, s", round(each.frozen[-1], 2), 2))
        told.append(Row(f"{hosts} hosts: last end, s", round(each.ended, 2), None, None, "-", holds=True))
    count, freeze = only
    rate = round(count / freeze.to_freeze, 2)
    told.append(Row("hosts a second a core, to the freeze by a run", rate, None, None, "-", holds=True))
    most = max(seen)
    rate = round(most / seen[most].to_freeze, 2)
    told.append(Row("hosts a second a core, by a frame", rate, None, None, "at least 10", rate >= _GOAL_FREEZES))
    rate, goal = round(most / seen[most].whole, 2), f"at least {_GOAL_EVACUATIONS:g}"
    told.append(Row("evacuations a second a core", rate, None, None, goal, rate >= _GOAL_EVACUATIONS))
    told.append(under("what simulated hosts were refused", sum(len(each.errors) for each in seen.values()), 1))
    return told


def measured(on: stage.Stage, sizes: Sequence[int]) -> tuple[list[Row], str]:
    """Measure it all on a plant where a worker serves fleets; the rows, and what the figures depend on."""
    names = [f"sim{number:03}" for number in range(sizes[-1])]
    real, script = real_hosts(on)
    blocks = {name: Workload(root=on.folder, host=name, incident_suffix=name) for name in names}
    took = stage.deploy(on, blocks, "sim")
    say(f"{len(names)} workloads deployed in {took:.1f} s")
    only = to_the_freeze(on, script, names)
    seen = dict[int, Measured]()
    for size in sizes:
        stage.deploy_only(on, f"sim{size}", names[:size])
        stage.await_written(on.plant)
        seen[size] = whole(on, script, f"sim{size}", names[:size])
    say("\n".join(sorted({error for each in (only, *seen.values()) for error in each.errors})[:20]))
    conditions = (
        f"{os.cpu_count()} processors for plant and simulated hosts; {script.before_freeze} requests to the freeze, "
        f"{len(script.asked)} requests and events in all; processor seconds a host: "
        f"{only.to_freeze / len(names):.3f} to the freeze alone, "
        + ", ".join(f"{each.whole / size:.2f} of {size}" for size, each in seen.items())
    )
    result = [under(f"{len(names)} workloads deployed, s", round(took, 1), 60)]
    return [*result, *rows(real, (len(names), only), seen)], conditions


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 if every goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="three simulated hosts: shows only that it runs")
    small = parser.parse_args(arguments).small
    folder, key = begin(), new_key()
    write_frame_keys(folder)
    with ExitStack() as parts:
        plant = parts.enter_context(Plant(folder / "plant", RESULTS.parent / "cache"))
        parts.enter_context(temporary_settings({PREFECT_API_URL: plant.server.api}))
        with client_of(plant.server) as client:
            make_pool(client, POOL)
        parts.enter_context(FleetHost(folder, plant.server, POOL, "control", ["fleet"]))
        with Strangers() as strangers:
            told, conditions = measured(stage.Stage(folder, plant, key), (1, 2, 3) if small else SIZES)
    result = with_strangers(told, strangers)
    write("fleet", result, conditions)
    say(conditions)
    with Strangers() as strangers:
        told = store_rows(folder, key, folder / "store" / stage.REAL[0], (10, 3) if small else (LISTED, 100))
    result += with_strangers(told, strangers)
    write("fleet", result, conditions)
    say(f"{table(result)}\n{conditions}")
    return 0 if all(row.holds for row in result) else 1


if __name__ == "__main__":
    sys.exit(main())
