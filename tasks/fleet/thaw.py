"""Call the evacuation of a fleet off: cancel what has not begun, answer what asks, thaw what is frozen."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from tasks.custody.fleet.host_end import CONTAINED, HostEnd, Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.outcome_lines import fold_names
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import ALREADY_THAWED, PARTLY_THAWED
from tasks.fleet.claim import call_off
from tasks.fleet.frame import send
from tasks.fleet.opening import the_incident
from tasks.fleet.orders import cancel_waiting, decide, rows_of
from tasks.people.form import StopOrThaw
from tasks.prefect_side.clock import server_time
from tasks.runtime.step import step_without_incident
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 1.0
_STOPPED: Final = CONTAINED | {HostEnd.UNANSWERED, HostEnd.UNVERIFIED, HostEnd.NOT_CONTAINED}
_BAD: Final = frozenset(HostEnd) - _STOPPED - {HostEnd.THAWED}


@step_without_incident("thaw_fleet", "thaw the fleet", retries=2)
def thaw_all(fleet: str, fleet_id: str | None, reason: str, run: str) -> tuple[str, str]:
    """Thaw what can be thawed, and wait for it two minutes at most.

    Returns the hosts that are thawed or were called off before they began, and those that are not, with the reason of
    each. Raises Refused for an unknown incident.
    """
    with get_client(sync_client=True) as client:
        incident = the_incident(client, fleet, fleet_id)
        with suppress(HTTPError):
            call_off(client, incident.id)
        try:
            send(client, incident, "thaw", run, server_time(client))
        except (HTTPError, ValueError) as error:
            logger.warning("no frame was sent; each host is thawed by its own run: %s", error)
        why = f"the fleet is thawed: {reason or 'no reason given'}"
        answer = StopOrThaw(decision="thaw", by=f"fleet-thaw, run {run}", why=reason)
        rows, outcome = rows_of(client, incident), dict[str, str]()
        thaws = _order_thaws(client, incident, [row for row in rows if _may_be_frozen(row)], reason, run)
        first = [rows]

        def is_settled() -> bool:
            rows = first.pop() if first else rows_of(client, incident)
            outcome.update(dict.fromkeys(cancel_waiting(client, rows, why)[0], ""))
            decide(client, rows, answer, incident.id)
            for row in rows:
                if (result := _outcome(client, row, thaws)) is not None:
                    outcome.setdefault(row.host, result)
            return len(outcome) == len(rows)

        poll_until(is_settled, _WAIT_SECONDS, _LOOK_SECONDS)
    names = [row.host for row in rows]
    remaining = [f"{name}: {outcome.get(name, 'still at work')}" for name in names if outcome.get(name, "?")]
    return fold_names([name for name in names if outcome.get(name) == ""]), "; ".join(remaining)


def outcome_lines(thawed: str, remaining: str) -> list[str]:
    """Return what `thaw_all` has found, in words."""
    return [f"thawed or called off: {thawed or 'none'}", *([f"NOT thawed: {remaining}"] if remaining else [])]


def _may_be_frozen(row: Row) -> bool:
    """Return whether its run has died, and may have left the host frozen. A run at work keeps others out."""
    died = row.end in {HostEnd.CRASHED, HostEnd.CANCELLED, HostEnd.SILENT} and not row.waits
    return died or (row.end in _BAD and bool(row.frozen))


def _order_thaws(
    client: SyncPrefectClient, incident: FleetIncident, rows: list[Row], reason: str, run: str
) -> dict[str, UUID | str]:
    """Run the thaw deployment of each host; return its run, or why there is none."""
    found = dict[str, UUID | str]()
    for row in rows:
        try:
            deployment = client.read_deployment_by_name(full_name("thaw", row.host))
            flow_run = client.create_flow_run_from_deployment(
                deployment.id,
                parameters={
                    "reason": f"{reason or 'the fleet is thawed'} ({incident.id})",
                    **({"incident_id": row.incident} if row.incident else {}),
                },
                tags=[f"fleet-thaw:{incident.id}"],
                idempotency_key=f"{incident.id}:{row.host}:thaw:{run}",
            )
            found[row.host] = flow_run.id
        except Exception as error:  # noqa: BLE001  one host never stops another
            found[row.host] = f"{type(error).__name__}: {error}"
    return found


def _outcome(client: SyncPrefectClient, row: Row, thaws: Mapping[str, UUID | str]) -> str | None:
    """Return "" if the host is thawed or never began, why it is not, or None while that is open."""
    thaw = thaws.get(row.host)
    if isinstance(thaw, str):
        return thaw
    if thaw:
        run: FlowRun | None = None
        with suppress(ObjectNotFound):
            run = client.read_flow_run(thaw)
        return _of_run(run, row.incident)
    if row.failed == PARTLY_THAWED.name:
        return f"{row.failed}: {row.message}"
    never_began = row.end is HostEnd.CANCELLED and row.began is None
    if row.end in {HostEnd.THAWED, HostEnd.EXPIRED, HostEnd.REFUSED} or never_began:
        return ""
    if row.end in _STOPPED:
        return f"it was stopped already, {row.end}"
    return None


def _of_run(run: FlowRun | None, incident: str) -> str | None:
    if run is None or run.state is None:
        return "its thaw is gone from the server"
    if not run.state.is_final():
        return None
    if run.state.name == HostEnd.THAWED and not incident and ALREADY_THAWED in str(run.state.message):
        return f"which incident it is frozen for is not known: {run.state.message}"
    return "" if run.state.name == HostEnd.THAWED else f"{run.state.name}: {run.state.message}"
