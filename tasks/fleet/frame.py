"""Send the frame that freezes all hosts of a fleet at once, or gives them back; read what they answer. Best effort."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event

from blocks.signing_key import SigningKey
from tasks.adapters.server_time import server_time
from tasks.custody.fleet.frame import ANSWER, EVENT, HOSTS, NAMESPACE, RESOURCE, Answer, FramedHost, new_frame
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.incident.description import EMPTY, recognisable
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import sign
from tasks.fleet.hosts import every
from tasks.fleet.opening import Trigger, open_fleet
from tasks.runtime.actor import triggered_by
from tasks.system.installation import FLEET_KEY

logger = logging.getLogger(__name__)

FLOW: Final = "fleet"
_PAGES: Final = 100


def freeze_early(run: FlowRun) -> None:
    """Open the incident of a fleet's run that a worker has claimed, and send its frame. Never raises.

    The process of the run finds the incident as its own. One that joins, carries on or retries sends none: of hosts
    that have been evacuated, or called off, meanwhile it would freeze what is at work again.
    """
    given = run.parameters
    if given.get("fleet_id") or given.get("retry") or run.created is None:
        return
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment(run.deployment_id).name if run.deployment_id else ""
            trigger = Trigger(
                given["fleet"],
                given.get("reason", ""),
                given.get("policy", "graceful"),
                given.get("recover", False),
                None,
                False,
                str(run.id),
                run.created,
                triggered_by(run, f"{FLOW}/{deployment}"),
            )
            opened = open_fleet.fn(trigger)
            if isinstance(opened, FleetIncident) and opened.is_opened_by(trigger.run):
                send(client, opened, "freeze", trigger.run)
    except Exception as error:  # noqa: BLE001  the runs of the hosts freeze without it
        logger.warning("no frame was sent; each host is frozen by its own run: %s: %s", type(error).__name__, error)


def send(client: SyncPrefectClient, incident: FleetIncident, act: Literal["freeze", "thaw"], run: str) -> None:
    """Sign and send it, if this host has the key. Raises ValueError for an unusable key, or an error of httpx."""
    if not FLEET_KEY.exists():
        return
    key, now = SigningKey(key_file=FLEET_KEY, identity=f"fleet@{incident.name}").open(), server_time(client)
    targets = digest_bytes(canonical(incident.facts))
    named = tuple(_hosts(client, incident))
    for hosts in (named[at : at + HOSTS] for at in range(0, len(named), HOSTS)):
        nonce = secrets.token_hex(16)
        frame = new_frame(act, incident.id, now, nonce, run=run, targets=targets, hosts=hosts)
        payload = {"frame": frame.text, "signature": sign(key, frame.text.encode(), NAMESPACE).decode()}
        event = Event(occurred=now, event=EVENT, resource={"prefect.resource.id": RESOURCE}, payload=payload)
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
        logger.info("%s: a frame to %s %d hosts was sent", incident.id, act, len(hosts))


def _hosts(client: SyncPrefectClient, incident: FleetIncident) -> Iterator[FramedHost]:
    """Yield the hosts that have a deployment, with the fields that recognise their workloads."""
    blocks = every(client.read_block_documents_by_type, "workload", include_secrets=False)
    known = {str(block.name): block.data for block in blocks}
    wanted = {*recognisable({"root": "/-"}, ""), "fallback_dir"}
    for host in incident.hosts:
        if not host.problem and (fields := known.get(host.name)):
            workload = {name: fields[name] for name in wanted & fields.keys() if fields[name] not in EMPTY}
            yield FramedHost(host.name, host.pool, host.queue, workload)


def answers_of(client: SyncPrefectClient, incident: FleetIncident) -> list[Answer]:
    """Return the first answer of each host and kind to an incident's frames; none of what cannot be read."""
    about = {"event": {"name": [ANSWER]}, "resource": {"id": [f"{RESOURCE}.{incident.id}"]}, "order": "ASC"}
    found = dict[tuple[str, str], Answer]()
    with suppress(HTTPError, ValueError, KeyError, TypeError):
        page: Any = client.request("POST", "/events/filter", json={"filter": about}).json()
        for _ in range(_PAGES):
            for event in page["events"]:
                answer = Answer.of(event)
                found.setdefault((answer.host, answer.done), answer)
            if not page["next_page"]:
                break
            token = {"page-token": page["next_page"].partition("page-token=")[2]}
            page = client.request("GET", "/events/filter/next", params=token).json()
    return [*found.values()]
