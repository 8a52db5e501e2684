"""Refuse a training while a cordon stands, and raise an alarm if it fails by itself (runbook §1)."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events.schemas.events import Event, Resource
from prefect.states import Cancelled, Completed, Failed
from pydantic import TypeAdapter, ValidationError

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.errors import Refused
from tasks.custody.incident.ending import REFUSED
from tasks.custody.incident.incident import Incident
from tasks.host.file_lock import holder, open_lock
from tasks.host.process.table import age_of, began_at
from tasks.incident.current import last_opened
from tasks.incident.directory import cordon_base, evidence_of, find_home
from tasks.incident.layout import CORDON, FROZEN
from tasks.runtime.flow_run import make_state as ended_in
from tasks.system.files.atomic_files import read_marker
from tasks.training.process import Ended

EVENT: Final = "training.failed"
"""A training of the resource `training.NAME` failed by itself; payload: workload, host, run_id, pid, start,
began, exit_code, last_lines, still_running."""
_REFUSAL_SECONDS: Final = 10.0
_ANY_FAILURE: Final = frozenset({1})
"""Exit codes of every failing program, and of a plain `flock -n` that was refused."""


def tag_run(workload: str) -> None:
    """Tag this flow run, however it was started: the alarm for failed trainings selects by these tags."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    tags = {"training", f"workload:{workload}"}
    if run and not tags <= set(run.tags):
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=sorted({*run.tags, *tags}))


def require_command(workload: Workload, name: str) -> None:
    """Raise Refused if the block has no training command."""
    if not workload.training_command:
        raise Refused(
            f"the workload block {name} to say how a training is started",
            "an empty training_command",
            'Give it, one argument an item, as in ["make", "train-full"], and save the block again.',
        )


def standing(workload: Workload) -> str | None:
    """Return the incident of the standing cordon, from its marker alone: that survives a reboot, the guard does not."""
    marker = _marker(workload)
    return str(read_marker(marker).get("incident") or "an incident that its marker does not name") if marker else None


def _marker(workload: Workload) -> Path | None:
    """Return the cordon's marker: in the evidence folder, or where an incident was kept that had no room there."""
    try:
        for base in (evidence_of(workload), cordon_base(workload)):
            with suppress(FileNotFoundError, NotADirectoryError):
                (base / CORDON).lstat()
                return base / CORDON
    except OSError as error:
        remedy = f"Let the training's user search {evidence_of(workload)}."
        raise Refused("to be able to look whether a cordon stands", str(error), remedy) from error
    return None


def take_lock(workload: Workload) -> int | str:
    """Return the locked lock file, or why training is refused. Checks the marker again once it has the lock."""
    if incident := standing(workload):
        return _refusal(workload, incident)
    try:
        descriptor = open_lock(workload.lock)
    except OSError as error:
        expected = f"to be able to open the lock {workload.lock}"
        raise Refused(expected, str(error), "Let the training's user open it.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = holder(workload.lock)
        holding = f"process {owner.pid}" if owner else "somebody else"
        reason = f"{workload.lock} is held by {holding}. Nothing was started."
    else:
        reason = ""
    if incident := standing(workload):
        reason = _refusal(workload, incident)
    if reason:
        os.close(descriptor)
    return reason or descriptor


def _refusal(workload: Workload, incident: str) -> str:
    marker = _marker(workload)
    why = read_marker(marker).get("reason", "not given") if marker else "not given"
    return f"{incident}: a cordon stands ({why}). Nothing was started. Training may start when it is lifted."


def find_stopping_incident(workload: Workload, ended: Ended) -> str | None:
    """Return the incident that ended the training: its journal names it, or its cordon stood. None if neither."""
    try:
        incident = _froze(workload, ended.identity)
    except PermissionError:
        return standing(workload)
    if incident or ended.code == 0:
        return incident
    return standing(workload)


def _froze(workload: Workload, identity: Identity) -> str | None:
    try:
        incident = TypeAdapter(Incident).validate_json(last_opened(workload)).id
        frozen = TypeAdapter(list[Frozen]).validate_json((find_home(workload, incident) / FROZEN).read_bytes())
    except PermissionError:
        raise
    except (OSError, ValidationError):
        return None
    return incident if any(process.identity == identity for process in frozen) else None


def raise_alarm(name: str, run: str, ended: Ended) -> str:
    """Emit the event of a training that failed by itself; return why that was impossible, else empty.

    The event's id is made of run and process, so that a repeated call makes no second event.
    """
    identity = ended.identity
    event = Event(
        event=EVENT,
        resource=Resource({"prefect.resource.id": f"training.{name}", "prefect.resource.name": name}),
        payload={
            "workload": name,
            "host": socket.gethostname(),
            "run_id": run,
            "pid": identity.pid,
            "start": identity.start,
            "began": began_at(identity.start).isoformat(),
            "exit_code": ended.code,
            "last_lines": list(ended.last),
            "still_running": list(ended.still_running),
        },
        id=uuid5(NAMESPACE_URL, f"{EVENT}/{name}/{run}/{identity.pid}.{identity.start}"),
    )
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except Exception as error:  # noqa: BLE001  whatever the server does, the run ends with what is known
        return f"{type(error).__name__}: {error}"
    return ""


def conclude(workload: Workload, name: str, run: str, ended: Ended) -> State[Any]:
    """Return Completed, Cancelled by an evacuation, Refused if its launcher met a lock, or Failed with an alarm."""
    if incident := find_stopping_incident(workload, ended):
        return Cancelled(message=f"{incident}: stopped by the evacuation; {ended.summary}")
    if ended.code == 0:
        return Completed(message=ended.summary)
    if ended.code in set(workload.training_refused) - _ANY_FAILURE and _at_once(ended):
        return ended_in(
            REFUSED,
            f"{ended.summary}, by which it says that a lock refused it (training_refused). This flow holds "
            f"{workload.lock} while it runs training_command, so a training_command that locks it too can never start. "
            "Leave the lock to one of the two: name the training without flock in training_command, or start the "
            "launcher by make, cron or hand (docs/training.md)",
        )
    trouble = raise_alarm(name, run, ended)
    alarm = f"but the alarm could not be raised: {trouble}" if trouble else f"the alarm {EVENT} is raised"
    return Failed(message=f"{ended.summary}; {alarm}")


def _at_once(ended: Ended) -> bool:
    """Whether it ended as a launcher does that a lock refuses; later the same code may be any failure of a training."""
    return not ended.still_running and age_of(ended.identity.start) < _REFUSAL_SECONDS
