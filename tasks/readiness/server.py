"""Look at Prefect's side: server, blocks, deployment, queue, what is paused, worker, alarms, a canary event, fleets."""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ValidationError

from blocks.saved import saved_fields
from blocks.store import with_usable_key
from blocks.workload import Workload
from tasks.containment.pause_prefect import named_by
from tasks.containment.release.resume_prefect import SECONDS
from tasks.custody.containment.pause import Launcher, LauncherKind
from tasks.custody.errors import Refused
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.readiness import Finding, fatal, finding_of_error, loss, sound
from tasks.prefect_side.clock import server_time
from tasks.prefect_side.scheduler import PrefectScheduler
from tasks.preflight.requirements import require_not_ours
from tasks.readiness.canary import fly
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.runs import WORKER_GONE_SECONDS, asking, is_served, runs_of
from tasks.system.installation import fingerprint
from tasks.system.own_runs import engine_of, entrypoint_of
from tasks.system.unit_files import WORKER_UNIT, is_stamped

SILENT_RUNS: Final = "evacuation: a run has gone silent"
"""The automation that finds runs that died."""
_ALARMS: Final = 2
_NEVER: Final = "no evacuation can be started but by hand: evacuation run"
_DEPLOY: Final = "evacuation deploy evacuation.toml"


def check_server(target: CheckTarget) -> Finding:
    """Ask the server for its version."""
    del target
    try:
        with asking() as client:
            return sound(f"Prefect {client.request('GET', '/admin/version').json()} at {client.api_url}")
    except Refused as error:
        return finding_of_error(error, _NEVER, loss)
    except httpx.HTTPError as error:
        reason = f"it does not answer: {type(error).__name__}: {error}"
        return fatal(reason, _NEVER, "systemctl status evacuation-server; echo $PREFECT_API_URL")


def check_credentials(target: CheckTarget) -> Finding:
    """Ask the server without credentials, as whoever reaches it can."""
    del target
    nobody = {PREFECT_API_AUTH_STRING: None, PREFECT_API_KEY: None}
    with asking(), temporary_settings(nobody), get_client({}, sync_client=True) as stranger:
        try:
            stranger.request("POST", "/flows/count")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise
            return sound(f"{stranger.api_url} asks for them")
    weigh = fatal if WORKER_UNIT.exists() and is_stamped(WORKER_UNIT.read_text()) else loss
    matters = "whoever reaches it starts runs here, and reads what is saved there"
    return weigh(f"{stranger.api_url} answers without any", matters, "evacuation install FILE --server")


def check_saved(target: CheckTarget) -> Finding:
    """Compare workload and store as saved with those that are looked at, and validate them by today's rules."""
    with asking():
        try:
            block = Workload.model_validate(saved_fields(f"workload/{target.name}"))
            store = with_usable_key(saved_fields(f"evidence-store/{target.store}"))[0]
        except ObjectNotFound:
            return fatal(f"workload/{target.name} or evidence-store/{target.store} is not saved", _NEVER, _DEPLOY)
        except ValidationError as error:
            return fatal(f"a saved block is not valid: {error.errors()[0]['msg']}", "the run is refused", _DEPLOY)
    other = [*_other(block, target.workload), *(f"store: {name}" for name in _other(store, target.block))]
    if other:
        return loss(f"what is saved has another {', '.join(other)}", "the worker evacuates by what is saved", _DEPLOY)
    return sound(f"workload/{target.name} and evidence-store/{target.store} are what is looked at here")


def _other(block: BaseModel, other: BaseModel) -> list[str]:
    """Return the names of the fields that differ, those of nested blocks by their values."""

    def plain(value: Any) -> Any:
        return value.model_dump() if isinstance(value, BaseModel) else value

    return [name for name in type(block).model_fields if plain(getattr(block, name)) != plain(getattr(other, name))]


def check_deployment(target: CheckTarget) -> Finding:
    """Validate the saved parameters by today's flow, and look whether the worker would start its runs."""
    try:
        deployment = target.deployment
    except ObjectNotFound:
        return fatal(f"{full_name('evacuate', target.name)} is not deployed", _NEVER, _DEPLOY)
    try:
        flow: Any = load_flow_from_entrypoint(entrypoint_of(deployment))
        engine_of(deployment.job_variables.get("command"))
    except Refused as error:
        return finding_of_error(error, "the worker starts no such run")
    try:
        flow.validate_parameters(deployment.parameters)
    except Exception as error:  # noqa: BLE001  Prefect has several
        return fatal(f"saved parameters do not fit: {type(error).__name__}: {error}", "no run begins", _DEPLOY)
    if (deployment.parameters.get("workload"), deployment.parameters.get("store")) != (target.name, target.store):
        matters = "another workload or store than was looked at here"
        return loss(f"it evacuates {deployment.parameters}", matters, _DEPLOY)
    if parameter_schema(flow).model_dump(exclude_unset=True) != deployment.parameter_openapi_schema:
        return loss("its form is that of another version", "the server refuses or lacks fields of today's", _DEPLOY)
    return sound(f"{full_name('evacuate', target.name)}, its parameters fit today's flow")


def check_queue(target: CheckTarget) -> Finding:
    """Look whether pool and queue are paused or full, and for runs that no worker has taken."""
    deployment = target.deployment
    with asking() as client:
        name = f"{deployment.work_pool_name}/{deployment.work_queue_name}"
        pool = client.read_work_pool(str(deployment.work_pool_name))
        line = client.read_work_queue_by_name(str(deployment.work_queue_name), pool.name)
        late = runs_of(client, full_name("evacuate", target.name), ["Late"])
    if pool.is_paused or line.is_paused:
        cure = f"prefect work-pool resume {pool.name}; prefect work-queue resume {line.name} --pool {pool.name}"
        return fatal(f"{name} is paused", "no run begins", cure)
    if 0 in {pool.concurrency_limit, line.concurrency_limit}:
        return fatal(f"{name} has a limit of 0 runs", "no run begins", f"prefect work-queue inspect {line.name}")
    if late:
        summary = f"no worker has taken {', '.join(run.name for run in late)}"
        return loss(summary, "a worker that is started now evacuates at once", "prefect flow-run cancel, if not wanted")
    return sound(f"{name} takes runs, none is late")


def check_launchers(target: CheckTarget) -> Finding:
    """Look whether the server knows what the cordon pauses, and whether that is never the evacuation's own."""
    deployment, launchers = target.deployment, named_by(target.workload)
    pool = str(deployment.work_pool_name)
    own = (Launcher(LauncherKind.POOL, pool), Launcher(LauncherKind.QUEUE, f"{pool}/{deployment.work_queue_name}"))
    try:
        require_not_ours(launchers, (*own, Launcher(LauncherKind.DEPLOYMENT, full_name("evacuate", target.name))))
    except Refused as error:
        return finding_of_error(error, "the run is refused before it begins")
    states = PrefectScheduler().list_states(launchers, SECONDS)
    if unread := "; ".join(f"{each.launcher}: {each.reason}" for each in states if each.paused is None):
        cure = f"correct pause_deployments, pause_queues or pause_pools in the block, then: {_DEPLOY}"
        return fatal(unread, "it is not paused, and training may start: NotContained", cure)
    return sound(", ".join(map(str, launchers)) or "the block names nothing of Prefect's to pause")


def check_worker(target: CheckTarget) -> Finding:
    """Look when the host's worker was last heard of."""
    deployment = target.deployment
    with asking() as client:
        pool, name = str(deployment.work_pool_name), str(deployment.work_queue_name)
        last_poll = client.read_work_queue_by_name(name, pool).last_polled
        now = server_time(client)
        beats = [each.last_heartbeat_time for each in client.read_workers_for_work_pool(pool) if each.name == name]
    age = min((now - at).total_seconds() if at else inf for at in (last_poll, *beats))
    if age > WORKER_GONE_SECONDS:
        cure = f"systemctl restart evacuation-worker, or: evacuation worker --pool {pool} --work-queue {name}"
        state = "was never heard of" if age == inf else f"was last heard of {age:.0f} s ago"
        return fatal(f"the worker of {pool}/{name} {state}", "no run begins", cure)
    return sound(f"the worker of {pool}/{name} was heard of {age:.0f} s ago")


def check_alarms(target: CheckTarget) -> Finding:
    """Look whether the automations that start and watch evacuations are there and active."""
    with asking() as client:
        own = client.read_resource_related_automations(f"prefect.deployment.{target.deployment.id}")
        automations = [*own, *client.read_automations_by_name(SILENT_RUNS)]
    off = [each.name for each in automations if not each.enabled]
    matters = "a failed training starts nothing, or a run that died is not found"
    if off:
        return loss(f"not active: {', '.join(off)}", matters, "prefect automation resume NAME")
    if len(own) < _ALARMS or len(automations) == len(own):
        summary = f"{len(own)} of {_ALARMS} alarms, and {len(automations) - len(own)} that finds silent runs"
        return loss(summary, matters, _DEPLOY)
    return sound(", ".join(each.name for each in automations))


def check_canary(target: CheckTarget) -> Finding:
    """Raise a canary event, wait for the run that it starts, and compare versions, users and hosts."""
    with asking() as client:
        flight = fly(client, target.name)
    if flight.to_run is None:
        return loss("the event has made no run", "alarms start nothing; a person can", _DEPLOY)
    if flight.to_end is None or flight.answer is None:
        summary = f"its run was not ended by a worker: {flight.state or 'it waits'}"
        return fatal(summary, "an evacuation would wait as long", "look at the worker's log; restart it")
    answer, took = flight.answer, f"event to run {flight.to_run:.1f} s, to its end {flight.to_end:.1f} s"
    if answer.host not in {socket.gethostname(), socket.getfqdn()}:
        return fatal(f"it ran on {answer.host}", "that worker evacuates its own host", "start a worker here")
    if answer.user != os.geteuid():
        summary = f"the worker runs as user {answer.user}, this as {os.geteuid()}"
        matters = "host/ and workload/ are about other rights than the worker's"
        return loss(summary, matters, "run this as the worker's user")
    if {answer.version, answer.worker} != {fingerprint()}:
        worker = answer.worker or "none of ours"
        versions = f"runs are {answer.version}, the worker is {worker}, this is {fingerprint()}"
        return loss(versions, "an old worker may freeze late or misread a run", "systemctl restart evacuation-worker")
    return sound(f"{took}; worker and run are {answer.version}")


def check_fleet(target: CheckTarget) -> Finding:
    """Look which fleets have this host, whether they can be triggered, and name what cannot be seen from here."""
    with asking() as client:
        try:
            fleets = client.read_block_documents_by_type("fleet")
        except ObjectNotFound:
            fleets = []
        tags = target.deployment.tags
        names = [str(each.name) for each in fleets if _has(each.data, target.name, tags)]
        settings = json.dumps(client.request("GET", "/admin/settings").json()) if names else ""
        lacking = [reason for name in names for reason in _not_triggered(client, name)]
    if not names:
        return sound("no fleet has this workload")
    if lacking:
        return loss("; ".join(lacking), "the fleet's trigger starts nothing; each host can be evacuated", _DEPLOY)
    if "prefect_redis" not in settings:
        matters = "a storm of events may be lost with the process of the server that has it"
        return loss(f"{', '.join(names)}: the server's messages go without Redis", matters, "docs/fleet.md")
    unseen = "other replicas and the consumer groups of Redis are seen on the server alone: redis-cli xinfo groups"
    return sound(f"{', '.join(names)}: deployed, served by a worker, nothing late; {unseen}")


def _not_triggered(client: SyncPrefectClient, name: str) -> Iterator[str]:
    """Yield why a trigger of the fleet would start nothing."""
    deployment = full_name("fleet", name)
    try:
        there = client.read_deployment_by_name(deployment)
        pool, line = str(there.work_pool_name), str(there.work_queue_name)
        served = is_served(client, line, pool)
    except ObjectNotFound:
        yield f"{deployment} or its queue is not deployed"
        return
    if not served:
        yield f"no worker serves {pool}/{line}, where {deployment} waits"
    if late := runs_of(client, deployment, ["Late"]):
        yield f"no worker has taken {', '.join(run.name for run in late)}"


def _has(fleet: Mapping[str, Any], name: str, tags: Sequence[str]) -> bool:
    return name in (fleet.get("workloads") or ()) or fleet.get("tag") in tags
