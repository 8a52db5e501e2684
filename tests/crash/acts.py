"""What a person may ask of an incident, done on the paper host: each with what has to have happened before."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import time
from typing import Any

import flows.evacuate
import flows.recover
import tasks.recovery.api_client
import tasks.recovery.process_api
from tasks.cli.uncordon import let_go
from tasks.custody.containment.answer import GivenAnswer
from tasks.preflight.open_incident import NotOpened, Opened, Request, open_incident
from tasks.preflight.reopen import Reopening, reopen
from tests.crash.points import Act, done
from tests.simulation.run import End, Event, Order
from tests.simulation.runner import PaperRunner
from tests.simulation.simulate import draw_world
from tests.simulation.world import KINDS, World

_HEALTH = {"status": "ok", "model_path": "models/model_builtin.joblib"}
_SCHEMA, _PREDICTION = {"required_columns": ["age"]}, {"pred_proba": 1}
_ANSWERS: Mapping[str, Any] = {"/health": _HEALTH, "/schema": _SCHEMA, "/predict": _PREDICTION}


def host_of(folder: Path, *kinds: str) -> World:
    """A workload's folder and a host on which these live."""
    world = draw_world(Random(1), folder)  # noqa: S311  it draws nothing that stays
    host = world.host
    host.processes, host.lives = {1: host.processes[1]}, {1: host.lives[1]}
    host.later.clear()
    host.systemd.failing.clear()
    for kind in kinds:
        KINDS[kind](host, 1)
    world.stood = frozenset(pid for pid, each in host.processes.items() if each.state == "T")
    world.block |= {"api_url": "http://127.0.0.1:9", "stop_supervisors": True, "watch_seconds": 1, "grace_seconds": 1}
    return world


def _request(run: Any, **about: Any) -> Request:
    asked: dict[str, Any] = {"workload": "paper", "store": "store", "reason": "", "detected_at": None, "dry_run": False}
    asked |= {"incident_id": None, "policy": "graceful", "run": f"00000000-0000-4000-8000-{run.world.number:012d}"}
    return Request(**{**asked, "created": datetime.fromtimestamp(time(), UTC), **about})


def _in(run: Any, opened: Opened | NotOpened, flow: Callable[[Any], Any]) -> End:
    """Run a flow's steps in an open incident."""
    if isinstance(opened, NotOpened):
        return End(opened.ending.name, opened.summary, opened.ending.completed)
    run.context = opened.context
    try:
        with PaperRunner(opened.context) as steps:
            state = flow(steps)
    finally:
        opened.context.close()
    return End(state.name or "", state.message or "", state.is_completed())


def answer(run: Any) -> End:
    """Say of the first process that the last check did not know that it is to be ended."""
    home = max(run.world.folder.glob("evidence/IR-*"))
    unknown = [row["identity"]["pid"] for path in home.glob("unknown-*") for row in json.loads(path.read_text())]
    given = GivenAnswer(unknown[0] if unknown else 1, "end", "ana")
    opening: Any = open_incident
    opened = opening.fn(_request(run, incident_id=home.name, answer=given))
    return _in(run, opened, flows.evacuate.carry_out)


def recover(run: Any) -> End:
    """Bring the API back."""
    return_to_service()
    reopening: Any = reopen
    opened = reopening.fn(Reopening("paper", "store", None, "", _request(run).run))
    return _in(run, opened, lambda steps: flows.recover._recover(steps.context, "", "", None))


def evacuate_and_recover(run: Any) -> End:
    """Evacuate, and bring the API back in the same run."""
    return_to_service()
    opening: Any = open_incident
    return _in(run, opening.fn(_request(run)), lambda steps: flows.evacuate.carry_out(steps, recover=True))


def uncordon(run: Any) -> End:
    """Let training in again."""
    return End("Uncordoned", "\n".join(let_go(run.world.workload(), run.world.host)))


def return_to_service() -> None:
    """Let an API be started on paper, and answer."""

    def start(way: Any) -> None:
        block = way.context.workload
        way.host.happens("start the API")
        born = way.host.born({"workload": True}, block.api_command, cwd=str(block.root), ports=frozenset({9}))
        way._started = born.identity
        way.context.log.write("restarted", str(way.identity.pid))

    process_api: Any = tasks.recovery.process_api.ProcessApi
    api: Any = tasks.recovery.api_client.Api
    process_api.start = start
    process_api.listens = lambda *_: True
    api._ask = lambda _, __, path, ___: (200, json.dumps(_ANSWERS.get(path, {})).encode())


@dataclass(frozen=True)
class Scene:
    """Who lives there, what was done before, who came after that under the cordon, and the act.

    An evacuation is an order of the simulation's.
    """

    kinds: tuple[str, ...]
    before: tuple[Act | Order, ...]
    act: Act | Order
    newcomer: str = ""

    def begin(self, folder: Path) -> World:
        """Do what comes before."""
        world = host_of(folder, *self.kinds)
        for each in self.before:
            end = done(world, each)
            assert not end.trouble, end.trouble
        if self.newcomer:
            KINDS[self.newcomer](world.host, 1)
            done(world, Order(act="wait"))
        return world


_ALL = ("api", "training", "deaf", "shell")
SCENES = {
    "evacuate": Scene(_ALL, (), Order()),
    "evacuate, policy kill": Scene(_ALL, (), Order(policy="kill")),
    "carry on": Scene(_ALL, (Order(events=(Event("kill", 100),)),), Order()),
    "thaw": Scene((*_ALL, "stood"), (Order(events=(Event("kill", 30),)),), Order(act="thaw")),
    "answer": Scene((*_ALL, "mystery"), (Order(),), answer),
    "recover": Scene(_ALL, (Order(),), recover),
    "evacuate and recover": Scene(_ALL, (), evacuate_and_recover),
    "uncordon": Scene(_ALL, (Order(),), uncordon, newcomer="training"),
}
