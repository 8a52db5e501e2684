"""Send the frame that freezes all hosts of a fleet at once, or gives them back; read what they answer. Best effort."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event

from blocks.signing_key import SigningKey
from tasks.custody.fleet.frame import EARLY, EVENT, EVENT_ANSWER, HOSTS, NAMESPACE, RESOURCE, STANDS, Frame, FrameAnswer
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.incident.description import EMPTY, recognisable
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import sign
from tasks.fleet.hosts import every, plain
from tasks.fleet.opening import KnownFleet, Trigger, known_fleet, open_fleet
from tasks.prefect_side.clock import server_time
from tasks.runtime.actor import triggered_by
from tasks.system.installation import FLEET_KEY

logger = logging.getLogger(__name__)

_PAGES: Final = 100


def has_key() -> bool:
    """Return whether this host can sign frames."""
    return os.access(FLEET_KEY, os.F_OK)


def prepare(run: FlowRun) -> Callable[[], None] | None:
    """Read what a fleet's run freezes its hosts by, while the server decides who has the run. Never raises.

    Returns what opens the incident and sends its frame, once a worker has claimed the run, and never raises either;
    the process of the run finds the incident as its own. None for a run that sends no frame. One that joins, carries
    on or retries could freeze what has been evacuated, or called off, and is at work again. So could one that begins
    again.
    """
    parameters: dict[str, Any] = {"reason": "", "policy": "graceful", "recover": False, **run.parameters}
    if parameters.get("fleet_id") or parameters.get("retry") or run.run_count:
        return None
    with _log_failures(), get_client(sync_client=True) as client, ThreadPoolExecutor(2) as pool:
        fields = pool.submit(copy_context().run, _workloads)
        known = pool.submit(copy_context().run, known_fleet, parameters["fleet"])
        by = triggered_by(run, f"fleet/{client.read_deployment(run.deployment_id).name}")  # type: ignore[arg-type]
        terms = parameters["fleet"], parameters["reason"], parameters["policy"], parameters["recover"]
        trigger = Trigger(*terms, None, False, str(run.id), plain(run.created), by)  # type: ignore[arg-type]
        return partial(_open_and_send, trigger, known.result(), fields.result())
    return None


def _open_and_send(trigger: Trigger, known: KnownFleet, workloads: Mapping[str | None, Mapping[str, Any]]) -> None:
    with _log_failures(), get_client(sync_client=True) as client:
        opened = open_fleet.fn(trigger, known)
        if isinstance(opened, FleetIncident) and opened.is_opened_by(trigger.run):
            send(client, opened, "freeze", trigger.run, workloads)


@contextmanager
def _log_failures() -> Iterator[None]:
    """Log what fails: the runs of the hosts freeze without a frame."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the runs of the hosts freeze without it
        logger.warning("no frame was sent; each host is frozen by its own run: %s: %s", type(error).__name__, error)


def send(
    client: SyncPrefectClient,
    incident: FleetIncident,
    act: Literal["freeze", "thaw"],
    run: str,
    workloads: Mapping[str | None, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Sign and send it, if this host has the key. Raises ValueError for an unusable key, or an error of httpx.

    `workloads` has the fields that recognise each workload: what is given back was recognised before.
    """
    if not has_key():
        return
    key, now = SigningKey(key_file=FLEET_KEY, identity=f"fleet@{incident.name}").open(), server_time(client)
    named = [
        (host.name, {"pool": host.pool, "queue": host.queue, "workload": workloads.get(host.name, {})})
        for host in incident.hosts
        if not host.problem
    ]
    targets = digest_bytes(canonical(incident.facts))
    for hosts in (dict(named[at : at + HOSTS]) for at in range(0, len(named), HOSTS)):
        nonce = secrets.token_hex(16)
        text = Frame(act, incident.id, run, targets, now - EARLY, now + STANDS, nonce, hosts).text
        payload = {"frame": text, "signature": sign(key, text.encode(), NAMESPACE).decode()}
        event = Event(occurred=now, event=EVENT, resource={"prefect.resource.id": RESOURCE}, payload=payload)
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
        logger.warning("%s: a frame to %s %d hosts was sent", incident.id, act, len(hosts))


def _workloads() -> dict[str | None, Mapping[str, Any]]:
    """Return the fields that recognise each workload, by the name of its block."""
    wanted = {*recognisable({"root": "/-"}, ""), "fallback_dir"}
    with get_client(sync_client=True) as client:
        blocks = every(client.read_block_documents_by_type, "workload", include_secrets=False)
    by_block = {block.name: [(name, value) for name, value in block.data.items() if name in wanted] for block in blocks}
    return {block: {name: value for name, value in fields if value not in EMPTY} for block, fields in by_block.items()}


def answers_of(client: SyncPrefectClient, incident: FleetIncident) -> list[FrameAnswer]:
    """Return the first answer of each host and kind to an incident's frames; none of what cannot be read."""
    conditions = {"event": {"name": [EVENT_ANSWER]}, "resource": {"id": [f"{RESOURCE}.{incident.id}"]}, "order": "ASC"}
    found = dict[tuple[str, str], FrameAnswer]()
    with suppress(HTTPError, ValueError, KeyError, TypeError):
        page: Any = client.request("POST", "/events/filter", json={"filter": conditions}).json()
        for _ in range(_PAGES):
            for answer in map(FrameAnswer.of, page["events"]):
                found.setdefault((answer.host, answer.done), answer)
            if not page["next_page"]:
                break
            token = {"page-token": page["next_page"].partition("page-token=")[2]}
            page = client.request("GET", "/events/filter/next", params=token).json()
    return [*found.values()]
