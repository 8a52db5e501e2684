"""Send the frame that freezes all hosts of a fleet at once, or gives them back; read what they answer. Best effort."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event

from blocks.signing_key import SigningKey
from tasks.custody.fleet.frame import (
    EARLY,
    EVENT,
    EVENT_ANSWER,
    HOSTS,
    NAMESPACE,
    RESOURCE,
    STANDS,
    Frame,
    FrameAnswer,
    resource_of,
)
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.incident.description import EMPTY, recognisable
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import sign
from tasks.fleet.hosts import every, plain
from tasks.fleet.opening import KnownFleet, Trigger, known_fleet, open_known
from tasks.runtime.actor import triggered_by
from tasks.system.installation import FLEET_KEY

logger = logging.getLogger(__name__)

_PAGES: Final = 100
_EVERY_FRAME: Final = {"prefect.resource.id": RESOURCE}


def has_key() -> bool:
    """Return whether this host can sign frames."""
    return os.access(FLEET_KEY, os.F_OK)


@dataclass(frozen=True)
class PreparedFrame:
    """What freezes the hosts of a fleet once a worker has claimed its run. Its client is open until then.

    `workloads` are read meanwhile. `time` tells the server's.
    """

    client: SyncPrefectClient
    trigger: Trigger
    known: KnownFleet
    workloads: Future[dict[str, Mapping[str, Any]]]
    time: Callable[[], datetime]
    close: Callable[[], None]

    def send(self) -> None:
        """Open the incident, which the run's process finds as its own, and send its frames. Never raises. Closes."""
        with _log_failures(), closing(self):
            opened = open_known(self.client, self.trigger, self.known, self.time())
            if isinstance(opened, FleetIncident) and opened.opener == self.trigger.run:
                send(self.client, opened, "freeze", self.trigger.run, self.time(), self.workloads.result())


def prepare(run: FlowRun, time: Callable[[], datetime]) -> PreparedFrame | None:
    """Read what a fleet's run freezes its hosts by, while the server decides who has the run. Never raises.

    `time` tells the server's. None for a run that sends no frame. One that joins, carries on or retries could freeze
    what has been evacuated, or called off, and is at work again. So could one that begins again.
    """
    parameters: dict[str, Any] = {"reason": "", "policy": "graceful", "recover": False, **run.parameters}
    if parameters.get("fleet_id") or parameters.get("retry") or run.run_count:
        return None
    with _log_failures(), ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        fields = pool.submit(_workloads, client)
        deployment = pool.submit(client.read_deployment, run.deployment_id)  # type: ignore[arg-type]
        trigger = Trigger(
            **{name: parameters[name] for name in ("fleet", "reason", "policy", "recover")},
            fleet_id=None,
            retry=False,
            run=str(run.id),
            created=plain(run.created),  # type: ignore[arg-type]
            by="",
        )
        known = known_fleet(client, trigger.fleet, trigger.new_id)
        trigger = replace(trigger, by=triggered_by(run, f"fleet/{deployment.result().name}"))
        return PreparedFrame(client, trigger, known, fields, time, stack.pop_all().close)
    return None


@contextmanager
def _log_failures() -> Iterator[None]:
    """Log what fails: the runs of the hosts freeze without a frame."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the runs of the hosts freeze without it
        logger.warning("no frame was sent; each host is frozen by its own run: %s: %s", type(error).__name__, error)


def send(  # noqa: PLR0913, PLR0917  what a frame says
    client: SyncPrefectClient,
    incident: FleetIncident,
    act: Literal["freeze", "thaw"],
    run: str,
    now: datetime,
    workloads: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Sign and send it, if this host has the key. Raises ValueError for an unusable key, or an error of httpx.

    `now` is the server's time. `workloads` has the fields that recognise each workload: what is given back was
    recognised before.
    """
    if not has_key():
        return
    key = SigningKey(key_file=FLEET_KEY, identity=f"fleet@{incident.name}").open()
    named: list[tuple[str, Mapping[str, Any]]] = [
        (host.name, {"pool": host.pool, "queue": host.queue, "workload": workloads.get(host.name, {})})
        for host in incident.hosts
        if not host.problem
    ]
    targets, events = digest_bytes(canonical(incident.facts)), list[Event]()
    for hosts in (dict(named[at : at + HOSTS]) for at in range(0, len(named), HOSTS)):
        nonce = secrets.token_hex(16)
        text = Frame(act, incident.id, run, targets, now - EARLY, now + STANDS, nonce, hosts).text
        payload = {"frame": text, "signature": sign(key, text.encode(), NAMESPACE).decode()}
        # by these resources the server delivers the frame to the workers of these hosts alone
        receivers = {resource_of(each["pool"], queue) for each in hosts.values() for queue in ("", each["queue"])}
        related = [{"prefect.resource.id": each, "prefect.resource.role": "worker"} for each in sorted(receivers)]
        events.append(Event(occurred=now, event=EVENT, resource=_EVERY_FRAME, related=related, payload=payload))
    client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])
    logger.warning("%s: %d frames to %s %d hosts were sent", incident.id, len(events), act, len(named))


def _workloads(client: SyncPrefectClient) -> dict[str, Mapping[str, Any]]:
    """Return the fields that recognise each workload, by the name of its block.

    Each document comes with its schema. Parsed as Prefect's client would, a hundred take longer than to read them.
    """
    wanted = {*recognisable({"root": "/-"}, ""), "fallback_dir"}

    def read(**page: int) -> list[dict[str, Any]]:
        query: dict[str, Any] = {"params": {"include_secrets": False, **page}, "path_params": {"slug": "workload"}}
        return list(client.request("GET", "/block_types/slug/{slug}/block_documents", **query).json())

    return {
        block["name"]: {name: value for name, value in block["data"].items() if name in wanted and value not in EMPTY}
        for block in every(read)
    }


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
