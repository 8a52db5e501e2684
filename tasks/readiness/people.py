"""Look whether people have practised, and whether they are told of containment and end."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.adapters.server_time import server_time
from tasks.custody.incident.ending import DRY_RUN, NOT_REHEARSED, REHEARSED
from tasks.custody.incident.news import PEOPLE, TELL
from tasks.custody.incident.readiness import Finding, loss, sound
from tasks.incident.directory import bases
from tasks.incident.layout import DRY_RUN as DRY_RUNS
from tasks.incident.layout import closings
from tasks.readiness.patient import Patient
from tasks.readiness.runs import SILENT_SECONDS, asking, runs_of

TELL_PEOPLE: Final = "evacuation: tell people"
"""The automation that notifies people."""
_CURE: Final = "evacuation deploy evacuation.toml --notify slack-webhook/ops (docs/triggers.md)"
_OLD: Final = timedelta(days=180)
_MESSAGE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.5
_TRIES: Final = 3


def drill(patient: Patient) -> Finding:
    """Find the last drill on the server or dry run on this host."""
    known = sorted([*_dry_runs(patient), *_drills(patient)])
    matters = "the first to try it is somebody half asleep"
    cure = f"prefect deployment run drill/{patient.name} --watch, or evacuation plan evacuation.toml"
    if not known:
        return loss("no drill and no dry run is known", matters, cure)
    at, end = known[-1]
    told = f"the last was {at:%Y-%m-%d %H:%M} UTC and ended {end}"
    if end == NOT_REHEARSED.name or datetime.now(UTC) - at > _OLD:
        return loss(told, matters, cure)
    return sound(told)


def _dry_runs(patient: Patient) -> Iterator[tuple[datetime, str]]:
    """Yield when each dry run on this host has closed its record."""
    homes = (home for base in bases(patient.workload) for home in (base / DRY_RUNS).glob("IR-*"))
    for closing in (each for home in homes for each in closings(home)):
        yield datetime.fromtimestamp(closing.stat().st_mtime, UTC), DRY_RUN.name


def _drills(patient: Patient) -> Iterator[tuple[datetime, str]]:
    with asking() as client:
        for run in runs_of(client, "drill", patient.name, [REHEARSED.name, NOT_REHEARSED.name], 1):
            if run.end_time:
                yield datetime.fromtimestamp(run.end_time.timestamp(), UTC), str(run.state_name)


def notification(patient: Patient) -> Finding:
    """Look whether people are told: by which blocks, by a worker, and whether they got the last message."""
    matters = "nobody hears how an evacuation ends, nor that this became worse"
    with asking() as client:
        found = client.read_automations_by_name(TELL_PEOPLE)
        try:
            there = client.read_deployment_by_name(f"{TELL}/{PEOPLE}")
            to = [str(each) for each in there.parameters["to"]]
            for block in to:
                kind, _, name = block.partition("/")
                client.read_block_document_by_name(name, kind)
            polled = client.read_work_queue_by_name(PEOPLE, there.work_pool_name).last_polled
            silent = not polled or (server_time(client) - polled).total_seconds() > SILENT_SECONDS
        except ObjectNotFound as error:
            return loss(f"no notification is deployed, or its block is gone: {error}", matters, _CURE)
        if not found or not all(each.enabled for each in found):
            return loss("no notification is deployed and active", matters, _CURE)
        if silent:
            cure = f"add --work-queue {PEOPLE} to a worker of the pool {there.work_pool_name}, and restart it"
            return loss(f"no worker serves the queue {PEOPLE}", "the server sends messages itself, once each", cure)
        told = _sent(client, there, patient.name) if patient.message else _last(client)
    if told is None or told.state is None:
        return sound(f"{', '.join(to)}: no message was sent yet; --message sends one")
    if told.state.name != "Completed":
        why = f"{told.name}: {told.state.name}: {told.state.message or 'nobody has taken it yet'}"
        return loss(why, matters, "look at the receiver, then: evacuation doctor evacuation.toml --message")
    return sound(f"{', '.join(to)}: {told.state.message}")


def _last(client: SyncPrefectClient) -> FlowRun | None:
    return next(iter(runs_of(client, TELL, PEOPLE, ["Completed", "Failed", "Crashed", "Cancelled"], 1)), None)


def _sent(client: SyncPrefectClient, there: DeploymentResponse, name: str) -> FlowRun:
    """Send a test message as any other is sent, and return its run when that has ended, or as it is then."""
    body = "evacuation doctor was asked for it; nothing has happened. 試験通知です。対応は不要です。"
    about = {"subject": f"Test message 試験通知: {name}", "body": body}
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _TRIES}):  # a busy server answers 503
        key = f"test-message-{uuid4()}"
        run = client.create_flow_run_from_deployment(there.id, parameters=about, idempotency_key=key)
    deadline = time.monotonic() + _MESSAGE_SECONDS
    while not (run.state and run.state.is_final()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        run = client.read_flow_run(run.id)
    return run


CHECKS: Final = (drill, notification)
