"""`python -m benchmarks.contain`: the runbook's steps 0 to 3 as they are typed, the flow, and `evacuation run` typed.

All meet the sample workload in mid-training, with eight workers that compute, in turns. A clock runs from the start
of the process (the runbook's shell; what a worker starts for a flow run) until the API, or the training, is frozen,
gone, or (the training only) uses no more processor time, as seen from outside. All start with the same environment
and priority, and what they import has been imported once before on the quiet machine. The runbook is confined to what
the bench started (benchmarks/runbook.py). Trees of processes are frozen beside it (benchmarks/trees.py).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from benchmarks.machine import Strangers, own_session
from benchmarks.rows import Row, at_most, begin, median, quicker, table, under, with_strangers, write
from benchmarks.runbook import typed
from benchmarks.trees import tree_rows
from benchmarks.watched import Watched, watch
from blocks import EvidenceStore, Workload
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.deployment import NAME, client_of, deploy, prefect
from tasks.drill.sample_workload import WORKERS, SampleWorkload
from tasks.drill.screen import say
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tasks.prefect_side.own_server import PrefectServer

_RUN_SECONDS: Final = 180.0
_TIMES_QUICKER: Final = 4.0
_FREEZE_GOAL_SECONDS: Final = 0.5
_VERDICT_GOAL_SECONDS: Final = 12.0


@dataclass(frozen=True)
class Size:
    """So many pairs; seconds that a clock runs at most, and after which survivors are counted; workers waited for.

    `trees` are how many processes each tree has.
    """

    pairs: int = 3
    cap: float = 40.0
    survivors_after: float = 10.0
    workers: int = WORKERS
    trees: tuple[int, ...] = (10, 200, 2000)


FULL: Final = Size()
SMALL: Final = Size(pairs=1, cap=5.0, survivors_after=0.5, workers=1, trees=(10,))
"""Shows that the bench runs. Its figures mean nothing."""


@dataclass(frozen=True)
class Clocks:
    """What one run was seen to do, in seconds from its start; when it `began`, by the monotonic clock.

    `ended` is its process. By the flow's own word are `frozen`, counted from its first task, and `stopped`.
    """

    api: float
    training: float
    survivors: int
    frozen: float | None = None
    began: float = 0.0
    ended: float = 0.0
    stopped: float = 0.0


class Bench:
    """The stage: a Prefect server, a store, and a sample workload that is started anew for every run."""

    def __init__(self, folder: Path, server: PrefectServer, sample: SampleWorkload, size: Size) -> None:
        """Keep the parts."""
        self.folder, self.server, self.sample, self.size = folder, server, sample, size
        self.runs = 0

    def environment(self) -> dict[str, str]:
        """The same for both."""
        return self.server.env

    def warm_up(self) -> None:
        """What a machine has behind it on which both have run before, compiled bytecode among it."""
        environment = {name: value for name, value in self.environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
        imports = {"venv/bin/python": "sklearn, pandas", sys.executable: "prefect.engine, flows.evacuate"}
        for interpreter, modules in imports.items():
            command = [interpreter, "-c", f"import {modules}"]
            subprocess.run(command, cwd=self.sample.root, env=environment, check=True)

    def runbook(self) -> Clocks:
        """Steps 0 to 3 as they are typed."""
        return self._race(lambda: ["bash", "-c", typed(self.sample.sessions, self.sample.lock)])

    def flow(self) -> Clocks:
        """What a worker starts for a run of a deployment whose command is `python -m flows.engine`."""
        evidence = self.folder / f"evidence-{self.runs}"
        with temporary_settings({PREFECT_API_URL: self.server.api}):
            self.sample.block().model_copy(update={"evidence_dir": evidence}).save(NAME, overwrite=True)
        try:
            with client_of(self.server) as client:
                deployment = client.read_deployment_by_name(full_name("evacuate", NAME))
                run = client.create_flow_run_from_deployment(deployment.id, state=Pending()).id
            seen = self._race(lambda: [sys.executable, "-m", "flows.engine"], PREFECT__FLOW_RUN_ID=str(run))
        finally:
            LinuxHost().release(evidence / CORDON)
        return replace(seen, frozen=first_task_to_frozen(evidence))

    def typed(self) -> Clocks:
        """`evacuation run FILE`, which needs no server."""
        evidence, file = self.folder / f"evidence-{self.runs}", self.folder / "evacuation.toml"
        store = json.dumps(str(self.folder / "store"))
        file.write_text(f"{self.described(evidence)}\n[store.typed]\nfolder = {store}\n")
        command = [sys.executable, "-P", "-m", "flows.cli", "run", str(file)]
        try:
            seen = self._race(lambda: command)
        finally:
            LinuxHost().release(evidence / CORDON)
        stopped = step_done(evidence, "stop")["monotonic"] - seen.began
        return replace(seen, frozen=first_task_to_frozen(evidence), stopped=stopped)

    def described(self, evidence: Path) -> str:
        """Return the workload's table of a TOML file."""
        block = self.sample.block().model_copy(update={"evidence_dir": evidence})
        fields = block.model_dump(mode="json", include=block.model_fields_set & {*Workload.model_fields})
        return "\n".join(["[workload.typed]", *(f"{name} = {_toml(value)}" for name, value in fields.items())])

    def _race(self, command: Callable[[], Sequence[str]], **environment: str) -> Clocks:
        self.runs += 1
        self.sample.start()
        api, training = self.sample.sessions
        watched = Watched(api, idle_is_rest=False), Watched(training, idle_is_rest=True)
        try:
            log = self.folder / f"run-{self.runs}.log"
            how: dict[str, Any] = {"cwd": self.sample.root, "env": {**self.environment(), **environment}}
            began = time.monotonic()
            with log.open("wb") as out, own_session(command(), **how, stdout=out, stderr=out) as process:
                watch(watched, began + self.size.cap)
                process.wait(_RUN_SECONDS)
                ended = time.monotonic() - began
            time.sleep(self.size.survivors_after)
            left = sum(len(each.living()) for each in watched)
        finally:
            self.sample.end()
        api_rest, training_rest = ((each.rest or began + self.size.cap) - began for each in watched)
        return Clocks(api_rest, training_rest, left, began=began, ended=ended)


def first_task_to_frozen(evidence: Path) -> float:
    """From the custody log's first entry to the end of the freeze."""
    return float(step_done(evidence, "freeze")["monotonic"] - _entries(evidence)[0]["monotonic"])


def step_done(evidence: Path, step: str) -> dict[str, Any]:
    """Return the custody log's entry of a step's end."""
    return next(each for each in _entries(evidence) if each["action"] == "step done" and each.get("step_id") == step)


def _entries(evidence: Path) -> list[dict[str, Any]]:
    (log,) = evidence.glob("IR-*/custody.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def _toml(value: Any) -> str:
    """Return a value as TOML says it, which differs from JSON in tables."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {json.dumps(each)}' for name, each in value.items())}}}"
    return json.dumps(value)


def rows(ours: Sequence[Clocks], peer: Sequence[Clocks], typed: Sequence[Clocks], size: Size = FULL) -> list[Row]:
    """Medians of the clocks; of our own survivors the most, since a single one is a failure."""
    api, api_there = (median(each.api for each in side) for side in (ours, peer))
    training, training_there = (median(each.training for each in side) for side in (ours, peer))
    frozen = median(each.frozen or size.cap for each in ours)
    stopped = median(each.stopped for each in typed)
    stopped_there = median(max(each.api, each.training) for each in peer)
    verdict, ended_there = (median(each.ended for each in side) for side in (typed, peer))
    left = max(each.survivors for each in [*ours, *typed]), median(each.survivors for each in peer)
    return [
        quicker("process start to the API stopped, s", api, api_there, _TIMES_QUICKER),
        quicker("process start to the training at rest, s", training, training_there, _TIMES_QUICKER),
        under("first task to frozen, s", frozen, _FREEZE_GOAL_SECONDS),
        at_most("`evacuation run` typed to all of it stopped, s", stopped, stopped_there, 1),
        replace(under("`evacuation run` typed to its verdict, s", verdict, _VERDICT_GOAL_SECONDS), peer=ended_there),
        Row(f"survivors after {size.survivors_after:g} s", left[0], left[1], None, "none", left[0] == 0),
    ]


def conditions(root: Path) -> str:
    """What the figures depend on most: without bytecode the runbook's own imports are compiled each time."""
    compiled = any(root.glob("venv/lib/python*/site-packages/sklearn/__pycache__/*.pyc"))
    return f"{os.cpu_count()} processors; bytecode in the workload's environment: {'yes' if compiled else 'no'}"


@contextmanager
def stage(folder: Path, size: Size) -> Iterator[Bench]:
    """Start the parts; end them, whatever happens."""
    with PrefectServer(folder / "prefect") as server, SampleWorkload(folder / "workload", size.workers) as sample:
        sample.build()
        (folder / "store").mkdir()
        prefect(server, "block", "register", "-m", "blocks")
        with temporary_settings({PREFECT_API_URL: server.api}):
            EvidenceStore(folder=folder / "store").save(NAME)
            sample.block().save(NAME)
        deploy(server)
        yield Bench(folder, server, sample, size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pairs in turns. Exit 0 if every goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="one short pair, which shows only that the bench runs")
    size = SMALL if parser.parse_args(arguments).small else FULL
    folder, in_pairs, in_trees = begin(), Strangers(), Strangers()
    ours, peer, by_hand = list[Clocks](), list[Clocks](), list[Clocks]()
    with stage(folder, size) as bench:
        bench.warm_up()
        conditioned = conditions(bench.sample.root)
        for number in range(1, size.pairs + 1):
            for side, run in ((peer, bench.runbook), (ours, bench.flow), (by_hand, bench.typed)):
                with in_pairs:
                    side.append(run())
                say(f"round {number}, {run.__name__}: {side[-1]}")
    with in_trees:
        trees = tree_rows(folder, size.trees)
    result = [*with_strangers(rows(ours, peer, by_hand, size), in_pairs), *with_strangers(trees, in_trees)]
    write("contain", result, conditioned)
    say(f"{table(result)}\n{conditioned}")
    return 0 if all(row.holds for row in result) else 1


if __name__ == "__main__":
    sys.exit(main())
