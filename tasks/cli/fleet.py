"""Trigger a fleet from the command line and follow its table; call it off; show how it stands."""

import os
import re
import socket
import time
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from blocks.saved import asking_server
from tasks.cli.output import note, show
from tasks.custody.errors import Refused
from tasks.custody.fleet.host_end import HostEnd
from tasks.custody.fleet.outcome_lines import fold_names
from tasks.custody.fleet.table import STANDING, lines
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import ENDINGS
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE
from tasks.custody.visible import say
from tasks.fleet.closings import check_closings
from tasks.fleet.hosts import read_artifacts
from tasks.fleet.opening import the_incident
from tasks.fleet.orders import cancel_waiting, rows_of
from tasks.fleet.show import progress_key
from tasks.fleet.thaw import outcome_lines, thaw_all
from tasks.system.accounts import account_name
from tasks.system.polling import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State

Act: TypeAlias = Literal["run", "retry", "status", "cancel", "thaw"]

_LOOK_SECONDS: Final = 1.0
_WORKER_SECONDS: Final = 30.0
_TABLE: Final = re.compile(r"```text\n(.*?)\n```", re.DOTALL)
_THEN: Final = {each.name: each.then for each in ENDINGS}
_NO_WORKER: Final = "no worker has taken the fleet's run yet: evacuation worker --pool evacuation --work-queue fleet"


def fleet_by_hand(act: Act, fleet: str, incident: str | None, parameters: dict[str, Any], *, as_json: bool) -> int:
    """Do it, and return the exit code: of a run, that of its state. Raises Refused."""
    with asking_server(), get_client(sync_client=True) as client:
        if act in {"run", "retry"}:
            return _run(client, fleet, {**parameters, "retry": act == "retry", "fleet_id": incident}, as_json=as_json)
        acts: dict[str, Callable[..., int]] = {"status": _status, "cancel": _cancel, "thaw": _thaw}
        return acts[act](client, fleet, incident, parameters["reason"], as_json=as_json)


def _run(client: SyncPrefectClient, fleet: str, parameters: dict[str, Any], *, as_json: bool) -> int:
    """Run the fleet's deployment, and show its table until every host that answers has its end."""
    try:
        deployment = client.read_deployment_by_name(full_name("fleet", fleet))
    except ObjectNotFound as error:
        cure = "Deploy it: evacuation deploy FILE, with a [fleet.NAME]."
        raise Refused("the name of a fleet that is deployed", repr(fleet), cure) from error
    began = time.monotonic()
    flow_run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    run, since = flow_run.id, flow_run.created or datetime.now(UTC)
    note(f"fleet {fleet}: run {run}; Ctrl-C leaves it at work")
    table, warned = "", False

    def look() -> "list[State[Any]]":
        """Return the state that the command ends with; nothing before."""
        nonlocal table, warned
        state = client.read_flow_run(run).state
        if (text := _table(client, fleet, since)) and text != table:
            table = text
            say(*([] if as_json else text.splitlines()))
        if state is not None and (state.is_final() or STANDING in table):
            return [state]
        if not warned and not table and time.monotonic() - began > _WORKER_SECONDS:
            warned = True
            say(_NO_WORKER, error=True)
        return []

    (state,) = poll_until(look, inf, _LOOK_SECONDS)
    name = str(state.name) if state.is_final() else str(HostEnd.SILENT)
    message = (state.message or "") if state.is_final() else f"the run waits for silent hosts: {run}"
    code = EXIT_CODES[name] if state.is_completed() else EXIT_CODES.get(name) or INCOMPLETE
    data = {"run": str(run), "state": name, "exit_code": code, "message": message, "table": table.splitlines()}
    seconds, then = round(time.monotonic() - began, 3), _THEN.get(name, "")
    last = (f"  took      total_s={seconds:.2f} 所要秒数", f"  next      {then}", f"  exit      {code}")
    show("fleet", [f"{name}: {message}", *last], {**data, "total_s": seconds, "next": then}, as_json=as_json)
    return code


def _table(client: SyncPrefectClient, fleet: str, since: datetime) -> str:
    """Return the table as the fleet's run shows it; empty if that is older."""
    for artifact in read_artifacts(client, progress_key(fleet)):
        text = _TABLE.search(str(artifact.data))
        if text and artifact.updated and artifact.updated > since:
            return text[1]
    return ""


def _status(client: SyncPrefectClient, fleet: str, fleet_id: str | None, _: str, *, as_json: bool) -> int:
    incident = the_incident(client, fleet, fleet_id)
    rows = check_closings(client, incident, rows_of(client, incident))
    verdict = verdict_of([host.name for host in incident.hosts], rows)
    table = [f"{incident.id}", *lines(incident, rows, None)]
    hosts = [{"host": row.host, "attempt": row.attempt, "run": row.run, "label": row.label} for row in rows]
    show("fleet", table, {"fleet": incident.id, "end": verdict.end, "hosts": hosts}, as_json=as_json)
    return 0


def _cancel(client: SyncPrefectClient, fleet: str, fleet_id: str | None, reason: str, *, as_json: bool) -> int:
    """Cancel the orders that no worker has taken; evacuations at work go on. 0 only if none of them is left."""
    incident = the_incident(client, fleet, fleet_id)
    by = f"cancelled by {account_name(os.geteuid())}@{socket.gethostname()}: {reason or 'no reason given'}"
    hosts, remaining = cancel_waiting(client, rows_of(client, incident), by)
    output = [f"{incident.id}: cancelled before it began: {fold_names(hosts) or 'none'}; what had begun goes on"]
    output += [f"NOT cancelled, and may still begin: {fold_names(remaining)}"] if remaining else []
    show("fleet", output, {"fleet": incident.id, "cancelled": hosts, "left": remaining}, as_json=as_json)
    return INCOMPLETE if remaining else 0


def _thaw(_: SyncPrefectClient, fleet: str, fleet_id: str | None, reason: str, *, as_json: bool) -> int:
    thawed, remaining = thaw_all.fn(
        fleet, fleet_id, reason, f"{account_name(os.geteuid())}@{socket.gethostname()}, by hand"
    )
    show("fleet", outcome_lines(thawed, remaining), {"thawed": thawed, "left": remaining}, as_json=as_json)
    return EXIT_CODES["PartlyThawed" if remaining else "Thawed"]
