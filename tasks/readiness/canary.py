"""Raise an event that has to become a run of the host's worker, and hear from that run who has run it."""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.events import Event, Resource

from tasks.custody.incident.deployment_names import full_name
from tasks.readiness.runs import READY, runs_of
from tasks.system.installation import WORKER_VERSION, fingerprint
from tasks.system.polling import poll_until

CANARY_EVENT: Final = "evacuation.canary"
EVENT_SECONDS: Final = 30.0
WORKER_SECONDS: Final = 45.0
_LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True)
class CanaryAnswer:
    """Who has run a canary: its own version, that of the worker (empty for one that is not ours), user and host."""

    version: str
    worker: str
    user: int
    host: str


def answer() -> str:
    """Return what a canary's run says of this process, as the message of its state."""
    worker = os.environ.get(WORKER_VERSION, "")
    return json.dumps(asdict(CanaryAnswer(fingerprint(), worker, os.geteuid(), socket.gethostname())))


@dataclass(frozen=True)
class Flight:
    """How far a canary came: seconds to its run and to the end of that; None if it did not get there."""

    to_run: float | None = None
    to_end: float | None = None
    state: str = ""
    answer: CanaryAnswer | None = None


def fly(client: SyncPrefectClient, name: str) -> Flight:
    """Raise the event for a workload, and follow its run to the end, as long as that may take."""
    event = Event(event=CANARY_EVENT, resource=Resource({"prefect.resource.id": f"{CANARY_EVENT}.{name}"}), id=uuid4())
    began = time.monotonic()
    client.request("POST", "/events", json=[event.model_dump(mode="json")])

    def find_run(*, ended: bool = False) -> FlowRun | None:
        newest = runs_of(client, full_name(READY, name))
        found = (run for run in newest if run.parameters.get("canary") == str(event.id))
        return next((run for run in found if not ended or (run.state and run.state.is_final())), None)

    if not poll_until(find_run, EVENT_SECONDS, _LOOK_SECONDS):
        return Flight()
    to_run = time.monotonic() - began
    run = poll_until(lambda: find_run(ended=True), WORKER_SECONDS, _LOOK_SECONDS)
    return Flight(to_run, time.monotonic() - began, str(run.state_name), _parse_answer(run)) if run else Flight(to_run)


def _parse_answer(run: FlowRun) -> CanaryAnswer | None:
    with suppress(ValueError, TypeError):
        return CanaryAnswer(**json.loads((run.state and run.state.message) or ""))
    return None
