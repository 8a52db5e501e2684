"""Say on the server which incident of a fleet is open and which run works on it: the variable `fleet_NAME`."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from tasks.custody.fleet.host_order import parse_fleet_id
from tasks.custody.fleet.incident import FleetIncident
from tasks.fleet.hosts import plain, read_artifacts
from tasks.prefect_side.clock import server_time
from tasks.runtime.progress import artifact_key

LIST: Final = "targets"
"""How the key of the artifact begins that has an incident's frozen list."""
_THAWED: Final = "thawed"


@dataclass(frozen=True)
class Claim:
    """Which incident of a fleet is open, the run that works on it, until when its orders stand, when it was said."""

    fleet: str
    run: str
    not_after: datetime
    written: datetime


def claim_of(client: SyncPrefectClient, fleet: str) -> Claim | None:
    """Return what is said of the open incident of a fleet; None if there is none, or if it cannot be read."""
    found = client.read_variable_by_name(variable_of(fleet))
    fields: Any = found and found.value
    with suppress(AttributeError, KeyError, TypeError, ValueError, OverflowError):
        not_after = datetime.fromisoformat(fields["not_after"]).astimezone(UTC)
        return Claim(parse_fleet_id(fields["fleet"]), str(UUID(fields["run"])), not_after, plain(found.updated))  # type: ignore[union-attr,arg-type]  # a damaged one raises
    return None


def is_over(client: SyncPrefectClient, claim: Claim, incident: FleetIncident) -> bool:
    """Return whether a claim's orders have all expired, as an incident of the fleet has them, or were called off.

    No claim stands longer than an order, whatever it says. It is over, too, if the server knows no list of it: the list
    is written before the claim, which is then a stray one.
    """
    until = min(claim.not_after, claim.written + timedelta(seconds=incident.order_seconds))
    is_late = server_time(client) > until
    return is_late or is_called_off(client, claim.fleet) or not _is_written(client, LIST, claim.fleet)


def owner_of(client: SyncPrefectClient, incident: FleetIncident) -> str:
    """Return the run that is at work on an incident, by its id; empty if there is none."""
    claim = claim_of(client, incident.name)
    if claim is None or claim.fleet != incident.id:
        return ""
    with suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(claim.run)).state
        return "" if state is None or state.is_final() else claim.run
    return ""


def mark_open(client: SyncPrefectClient, incident: FleetIncident, run: str, *, retry: bool = False) -> None:
    """Note that an incident is open, and which run works on it. Raises ObjectAlreadyExists if another one was quicker.

    A note that cannot be read is replaced, and that of an incident that is over.
    """
    name = variable_of(incident.name)
    until = server_time(client) + timedelta(seconds=incident.order_seconds) if retry else incident.until
    value = {"fleet": incident.id, "run": run, "not_after": until.isoformat()}
    try:
        client.create_variable(VariableCreate(name=name, value=value))
    except ObjectAlreadyExists:
        claim = claim_of(client, incident.name)
        if claim and claim.fleet != incident.id and not is_over(client, claim, incident):
            raise
        client.update_variable(VariableUpdate(name=name, value=value))


def mark_settled(client: SyncPrefectClient, incident: FleetIncident, run: str) -> None:
    """Note that every host that answers has its end: a trigger that comes now is an incident of its own."""
    claim = claim_of(client, incident.name)
    if claim and (claim.fleet, claim.run) == (incident.id, run):
        client.delete_variable_by_name(variable_of(incident.name))


def call_off(client: SyncPrefectClient, fleet_id: str) -> None:
    """Note that an incident is thawed: no host gets a first order any more, and no trigger joins it."""
    text = "The fleet is thawed: no host is ordered any more. 解凍のため、指示を止めました。"
    client.create_artifact(ArtifactCreate(key=artifact_key(_THAWED, fleet_id), type="markdown", data=text))


def is_called_off(client: SyncPrefectClient, fleet_id: str) -> bool:
    """Return whether an incident is thawed."""
    return _is_written(client, _THAWED, fleet_id)


def _is_written(client: SyncPrefectClient, what: str, fleet_id: str) -> bool:
    return bool(read_artifacts(client, artifact_key(what, fleet_id)))


def variable_of(fleet: str) -> str:
    """Return the name of the variable that says which incident of a fleet is open."""
    return f"fleet_{fleet.replace('-', '_')}"
