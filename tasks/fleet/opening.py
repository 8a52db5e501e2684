"""Open an incident of a fleet: freeze the list of its hosts and write it down, or join or carry on the open one."""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import ArtifactCollection
from prefect.exceptions import ObjectAlreadyExists

from blocks.fleet import Fleet
from tasks.custody.errors import Refused
from tasks.custody.fleet.host_order import new_fleet_id, parse_fleet_id
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.store.manifest import canonical
from tasks.fleet.claim import LIST, claim_of, is_over, mark_open, owner_of
from tasks.fleet.hosts import hosts_of, read_artifacts
from tasks.prefect_side.clock import server_time
from tasks.prefect_side.saved_blocks import load_block, require_store
from tasks.runtime.progress import artifact_key
from tasks.runtime.step import step_without_incident
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 0.2
_JSON: Final = re.compile(r"```json\n(.*)```", re.DOTALL)


@dataclass(frozen=True)
class Trigger:
    """What is asked of a fleet, and the run that it started."""

    fleet: str
    reason: str
    policy: Literal["graceful", "kill"]
    recover: bool
    fleet_id: str | None
    retry: bool
    run: str
    created: datetime
    by: str

    @property
    def new_id(self) -> str:
        """The id of the incident that it opens, unless one is open."""
        return new_fleet_id(self.created, self.fleet, self.run)


@dataclass(frozen=True)
class JoinedFleet:
    """The fleet's incident is open, and another run is at work on it; `summary` names both."""

    incident: FleetIncident
    summary: str


@dataclass(frozen=True)
class KnownFleet:
    """A fleet's block, and its hosts as they are deployed now.

    `is_quiet` if no incident of it is open, and none was written for the run that asks.
    """

    block: Fleet
    hosts: tuple[TargetHost, ...]
    is_quiet: bool


def known_fleet(client: SyncPrefectClient, name: str, own_id: str) -> KnownFleet:
    """Read a fleet from the server, as few bytes and requests after one another as that takes.

    Raises ObjectNotFound for an unknown fleet, and Refused for one whose store is not saved. `own_id` is the id of the
    incident that the run which asks would open.
    """
    with ThreadPoolExecutor(3) as pool:
        is_open = pool.submit(copy_context().run, claim_of, client, name)
        written = pool.submit(copy_context().run, read_incident, client, own_id)
        block = Fleet.model_validate(client.read_block_document_by_name(name, Fleet.get_block_type_slug()).data)
        store = pool.submit(copy_context().run, require_store, block.store, client)
        hosts = hosts_of(client, block)
        store.result()
        return KnownFleet(block, hosts, is_quiet=not is_open.result() and not written.result())


@step_without_incident("open_fleet", "open the fleet's incident", retries=1)
def open_fleet(trigger: Trigger) -> FleetIncident | JoinedFleet:
    """Freeze the list of hosts and write it down before anything is ordered; or carry on, or join, the open incident.

    An incident is open until every host that answers has its end. One that is known by its id is carried on, and with
    `retry` the fleet's last one. A server that answers with an error is asked again for 20 s. Raises Refused for an
    unknown fleet or id, or a fleet without hosts.
    """

    def attempt() -> FleetIncident | JoinedFleet | None:
        try:
            return _open(trigger)
        except HTTPError as error:
            logger.warning("the server did not answer, and is asked again: %s", error)
            return None

    return poll_until(attempt, _PATIENCE_SECONDS, _AGAIN_SECONDS) or _open(trigger)


def open_known(
    client: SyncPrefectClient, trigger: Trigger, known: KnownFleet, now: datetime
) -> FleetIncident | JoinedFleet:
    """Open a new incident of a fleet that was read before, or join the open one. Raises errors of httpx at once.

    `now` is the server's time.
    """
    if not known.is_quiet:
        return _open_one(client, trigger) or _new_one(client, trigger, known.block)
    return _claim(client, trigger, _freeze_list(client, trigger, known.block, known.hosts, now))


def _open(trigger: Trigger) -> FleetIncident | JoinedFleet:
    """Open it once. Done again by the same run it finds what that has written already."""
    block: Fleet = load_block(Fleet, trigger.fleet)
    require_store(block.store)
    with get_client(sync_client=True) as client:
        if trigger.fleet_id or trigger.retry:
            incident = the_incident(client, trigger.fleet, trigger.fleet_id)
            if joined := _join(client, incident, trigger):
                return joined
            with suppress(ObjectAlreadyExists):  # a newer incident of the fleet is open
                mark_open(client, incident, trigger.run, retry=trigger.retry)
            return incident
        return _open_one(client, trigger) or _new_one(client, trigger, block)


def _open_one(client: SyncPrefectClient, trigger: Trigger) -> FleetIncident | JoinedFleet | None:
    """Return the open incident, joined or taken over from a run that ended; else the one that this run has opened."""
    claim = claim_of(client, trigger.fleet)
    incident = read_incident(client, claim.fleet) if claim else None
    if claim is None or incident is None or is_over(client, claim, incident):
        return None
    if joined := _join(client, incident, trigger):
        return joined
    if claim.run != trigger.run:  # else its worker has opened it, to freeze at once
        logger.warning("%s was opened by run %s, which has ended: this run carries it on", incident.id, claim.run)
        mark_open(client, incident, trigger.run)
    return incident


def _new_one(client: SyncPrefectClient, trigger: Trigger, block: Fleet) -> FleetIncident | JoinedFleet:
    if written := read_incident(client, trigger.new_id):
        return _claim(client, trigger, written)
    hosts = hosts_of(client, block)
    return _claim(client, trigger, _freeze_list(client, trigger, block, hosts, server_time(client)))


def _claim(client: SyncPrefectClient, trigger: Trigger, incident: FleetIncident) -> FleetIncident | JoinedFleet:
    """Note that the incident is open, unless another one was quicker."""
    try:
        mark_open(client, incident, trigger.run)
    except ObjectAlreadyExists:
        return _open_one(client, trigger) or incident
    return incident


def _freeze_list(
    client: SyncPrefectClient, trigger: Trigger, block: Fleet, hosts: tuple[TargetHost, ...], now: datetime
) -> FleetIncident:
    """Write down the list of hosts, as it is now, for a new incident."""
    if not hosts:
        raise Refused("a fleet with hosts", f"none: no evacuation has the tag {block.tag!r}", "Deploy them with it.")
    incident = FleetIncident(
        id=trigger.new_id,
        name=trigger.fleet,
        opened_at=now,
        opened_by=f"{trigger.by}, flow run {trigger.run}",
        reason=trigger.reason or "not given",
        policy=trigger.policy,
        recover=trigger.recover,
        store=block.store,
        order_seconds=block.order_seconds,
        ask_after_seconds=block.ask_after_seconds,
        ask_above=block.ask_above,
        ask_seconds=block.ask_seconds,
        unanswered=block.unanswered,
        senders=block.senders,
        hosts=hosts,
    )
    text = f"```json\n{canonical(incident.facts).decode()}```\n"
    title = f"{incident.id}: the frozen list of {len(hosts)} hosts 対象一覧"
    key, run = artifact_key(LIST, incident.id), UUID(trigger.run)
    client.create_artifact(ArtifactCreate(key=key, type="markdown", description=title, data=text, flow_run_id=run))
    return incident


def _join(client: SyncPrefectClient, incident: FleetIncident, trigger: Trigger) -> JoinedFleet | None:
    """Return the run that is at work on this incident, if there is another one."""
    owner = owner_of(client, incident)
    if owner in {"", trigger.run}:
        return None
    return JoinedFleet(
        incident,
        f"{incident.id}: run {owner} is at work on this incident of the fleet, and this trigger belongs to it. "
        "既存のインシデントに合流しました。",
    )


def read_incident(client: SyncPrefectClient, fleet_id: str) -> FleetIncident | None:
    """Return an incident by its id, as its list was frozen; None if the server knows none."""
    return next(_parse(read_artifacts(client, artifact_key(LIST, parse_fleet_id(fleet_id)))), None)


def last_incident(client: SyncPrefectClient, fleet: str) -> FleetIncident | None:
    """Return the last incident of a fleet; None if there was none."""
    found = _parse(read_artifacts(client, f"{LIST}-fl-%-{fleet}-____", like=True))
    return next((incident for incident in found if incident.name == fleet), None)


def _parse(artifacts: Iterable[ArtifactCollection]) -> Iterator[FleetIncident]:
    texts = (_JSON.search(str(each.data)) for each in artifacts)
    return (FleetIncident.of(json.loads(text[1])) for text in texts if text)


def the_incident(client: SyncPrefectClient, fleet: str, fleet_id: str | None) -> FleetIncident:
    """Return the incident of the given id, or the fleet's last one. Raises Refused if there is none of this fleet."""
    try:
        found = read_incident(client, fleet_id) if fleet_id else last_incident(client, fleet)
    except ValueError as error:
        raise Refused("an id of a fleet's incident", str(error), "Copy it from the run that opened it.") from error
    if found is None or found.name != fleet:
        got = fleet_id or "none that the server knows"
        raise Refused(f"an incident of the fleet {fleet}", got, "Leave fleet_id and retry out for a new one.")
    return found
