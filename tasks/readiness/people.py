"""Look whether people have practised, and whether they are told of containment and end."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import NOT_REHEARSED, REHEARSED
from tasks.custody.incident.news import PEOPLE, TELL
from tasks.custody.incident.readiness import Finding, loss, sound
from tasks.incident.dry_runs import last_dry_run
from tasks.incident.last_word import WORKS
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.runs import asking, is_served, runs_of
from tasks.system.polling import poll_until

TELL_PEOPLE: Final = "evacuation: tell people"
TELL_FLEETS: Final = "evacuation: tell people of a cancelled fleet"
LONG_RUNS: Final = "evacuation: a run does not end"
UNBEGUN_RUNS: Final = "evacuation: a run does not begin"
UNTAKEN_RUNS: Final = "evacuation: no worker takes a run"
UNTAKEN_MESSAGES: Final = "evacuation: no worker takes a message"
TELLING: Final = (TELL_PEOPLE, TELL_FLEETS, LONG_RUNS, UNBEGUN_RUNS, UNTAKEN_RUNS, UNTAKEN_MESSAGES)
"""The automations that notify people."""
_CURE: Final = "evacuation deploy evacuation.toml --notify slack-webhook/ops (docs/triggers.md)"
_TRY: Final = "evacuation doctor evacuation.toml --message"
_OLD: Final = timedelta(days=180)
_MESSAGE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.5
_TRIES: Final = 3


def check_drill(target: CheckTarget) -> Finding:
    """Find the last drill on the server and the last dry run on this host: neither makes up for the other's end."""
    rehearsals = {"drill": _last_drill(target), "dry run": last_dry_run(target.workload)}
    last = {kind: rehearsal for kind, rehearsal in rehearsals.items() if rehearsal}
    matters = "the first to try it is somebody half asleep"
    cure = f"prefect deployment run {full_name('drill', target.name)} --watch, or evacuation plan evacuation.toml"
    if not last:
        return loss("no drill and no dry run is known", matters, cure)
    rows = (f"the last {kind} was {at:%Y-%m-%d %H:%M} UTC, its end {end}" for kind, (at, end) in last.items())
    summary = "; ".join(rows)
    old = datetime.now(UTC) - max(at for at, _ in last.values()) > _OLD
    if old or not {end for _, end in last.values()} <= {REHEARSED.name, *WORKS}:
        return loss(summary, matters, cure)
    return sound(summary)


def _last_drill(target: CheckTarget) -> tuple[datetime, str] | None:
    with asking() as client:
        for run in runs_of(client, full_name("drill", target.name), [REHEARSED.name, NOT_REHEARSED.name], 1):
            if run.end_time:
                return datetime.fromtimestamp(run.end_time.timestamp(), UTC), str(run.state_name)
    return None


def check_notification(target: CheckTarget) -> Finding:
    """Look whether people are told: by which blocks, by a worker, and whether they got the last message."""
    matters = "nobody hears how an evacuation ends, nor that this became worse"
    with asking() as client:
        automations = {name: client.read_automations_by_name(name) for name in TELLING}
        try:
            deployment = client.read_deployment_by_name(f"{TELL}/{PEOPLE}")
            to = [str(each) for each in deployment.parameters["to"]]
            for block in to:
                kind, _, name = block.partition("/")
                client.read_block_document_by_name(name, kind)
            has_worker = is_served(client, PEOPLE, deployment.work_pool_name)
        except ObjectNotFound as error:
            return loss(f"no notification is deployed, or its block is gone: {error}", matters, _CURE)
        if off := [name for name, same in automations.items() if not same or not all(each.enabled for each in same)]:
            cure = f"prefect automation resume NAME; or: {_CURE}"
            return loss(f"not deployed or not active: {', '.join(off)}", matters, cure)
        if not has_worker:
            cure = f"add --work-queue {PEOPLE} to a worker of the pool {deployment.work_pool_name}, and restart it"
            return loss(f"no worker serves the queue {PEOPLE}", "the server sends messages itself, once each", cure)
        message = _send_test_message(client, deployment, target.name) if target.message else _last(client)
    if message is None or message.state is None:
        return loss(f"{', '.join(to)}: no message was ever sent", matters, _TRY)
    if message.state.name != "Completed":
        why = f"{message.name}: {message.state.name}: {message.state.message or 'nobody has taken it yet'}"
        return loss(why, matters, f"look at the receiver, then: {_TRY}")
    return sound(f"{', '.join(to)}: {message.state.message}")


def _last(client: SyncPrefectClient) -> FlowRun | None:
    return next(iter(runs_of(client, f"{TELL}/{PEOPLE}", ["Completed", "Failed", "Crashed", "Cancelled"], 1)), None)


def _send_test_message(client: SyncPrefectClient, deployment: DeploymentResponse, name: str) -> FlowRun:
    """Send a test message as any other is sent, and return its run when that has ended, or as it is then."""
    body = "evacuation doctor was asked for it; nothing has happened. 試験通知です。対応は不要です。"
    parameters = {"subject": f"Test message 試験通知: {name}", "body": body}
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _TRIES}):  # a busy server answers 503
        key = f"test-message-{uuid4()}"
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, idempotency_key=key)

    def has_ended() -> bool:
        state = client.read_flow_run(run.id).state
        return state is not None and state.is_final()

    poll_until(has_ended, _MESSAGE_SECONDS, _LOOK_SECONDS)
    return client.read_flow_run(run.id)
