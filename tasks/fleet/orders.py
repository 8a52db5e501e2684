"""Give the hosts of a fleet their orders, each once; take back what nobody has begun; hand over a person's decision.

See docs/adr/0032.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from tasks.custody.fleet.attempt import Attempt
from tasks.custody.fleet.host_end import Row, row_of
from tasks.custody.fleet.host_order import fleet_tag, run_name
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.fleet.retry import to_retry
from tasks.fleet.closings import check_closings
from tasks.fleet.hosts import attempts_of, signs_of_life
from tasks.people.form import StopOrThaw
from tasks.prefect_side.clock import server_time
from tasks.runtime.step import step_without_incident
from tasks.system.parallel import side_by_side
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 0.2
_AT_ONCE: Final = 10
"""Requests at once: above the server's 15 database connections it would answer 500."""


@dataclass(frozen=True)
class Lost:
    """An order that the server did not take: why, which attempt, and the incident that it carries on."""

    why: str
    attempt: int = 1
    incident: str = ""


def rows_of(
    client: SyncPrefectClient, incident: FleetIncident, problems: Mapping[str, Lost] | None = None
) -> list[Row]:
    """Return a line for every host of the frozen list. `problems` says why some could not be given an order."""
    now, attempts = server_time(client), attempts_of(client, incident.id)
    signs = signs_of_life(client, incident.hosts)
    lost = "no run of it came to be in time" if now > incident.until else ""
    return [
        row_of(
            host.name,
            host.problem or (problems or {}).get(host.name, Lost(lost)).why,
            attempts.get(host.name),
            signs.get((host.pool, host.queue)),
            now,
        )
        for host in incident.hosts
    ]


@step_without_incident("order_all", "order the evacuations", retries=2)
def order_all(incident: FleetIncident) -> dict[str, Lost]:
    """Order the evacuation of every host. Done again it changes nothing. Returns the orders not taken, by host."""
    return give(incident, ((host, 1) for host in incident.hosts))


@step_without_incident("order_missing", "order what was not ordered", retries=2)
def order_missing(incident: FleetIncident) -> dict[str, Lost]:
    """Order the hosts that have no order yet: the run that opened the incident may have died before it gave them."""
    ordered = dict[str, Attempt]()
    with suppress(HTTPError), get_client(sync_client=True) as client:
        ordered = attempts_of(client, incident.id)
    return give(incident, ((host, 1) for host in incident.hosts if host.name not in ordered))


@step_without_incident("order_again", "order again what failed", retries=2)
def order_again(incident: FleetIncident) -> dict[str, Lost]:
    """Order the hosts that have failed or are silent once more, each carrying on the incident that it has opened."""
    with get_client(sync_client=True) as client:
        rows = to_retry(check_closings(client, incident, rows_of(client, incident)))
        known = {row.host: row for row in rows}
        cancel_waiting(client, rows, "ordered again")
        # never a first attempt, whose terms count from the opening: it may have expired before it is made
        again = [(host, max(known[host.name].attempt, 1) + 1) for host in incident.hosts if host.name in known]
        logger.warning("ordered again: %s", ", ".join(host.name for host, _ in again) or "none")
    return give(incident, again, {name: row.incident for name, row in known.items()})


def give(
    incident: FleetIncident,
    wanted: Iterable[tuple[TargetHost, int]],
    carry_on: Mapping[str, str] | None = None,
    patience: float = _PATIENCE_SECONDS,
) -> dict[str, Lost]:
    """Create a run for each host and attempt, side by side. Returns the orders not taken, by host; stops for no error.

    Repeats sooner than a client of Prefect would, which waits many seconds for a database that was locked for one.
    """
    forever, refused = set[str](), dict[str, str]()
    pending = [(host, attempt) for host, attempt in wanted if not host.problem]
    attempts = {host.name: attempt for host, attempt in pending}

    def one(item: tuple[TargetHost, int]) -> tuple[str, str]:
        host, attempt = item
        parameters = {
            "reason": f"{incident.reason} ({incident.id})"[:2000],
            "policy": incident.policy,
            "recover": incident.recover,
            **({"incident_id": carried} if (carried := (carry_on or {}).get(host.name)) else {}),
        }
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                # the terms of a first attempt count from the beginning of the incident, those of a later one from now
                order = incident.order(host, attempt, incident.opened_at if attempt == 1 else server_time(client))
                client.create_flow_run_from_deployment(
                    UUID(host.deployment),
                    name=run_name(host.name, incident.id),
                    parameters={**parameters, "order": order.parameters},
                    tags=[fleet_tag(incident.id), f"attempt:{attempt}"],
                    idempotency_key=order.key,
                )
        except Exception as error:  # noqa: BLE001  one host never stops another
            details = error.response.text if isinstance(error, HTTPStatusError) else str(error)
            is_refused = isinstance(error, HTTPStatusError) and error.response.is_client_error
            if isinstance(error, ObjectNotFound) or is_refused:
                forever.add(host.name)
            return host.name, f"no order: {type(error).__name__}: {details}"[:500]
        return host.name, ""

    with get_client(sync_client=True) as client:
        if pending and incident.limit:
            with suppress(HTTPError, ObjectAlreadyExists):  # hosts send without it; another trigger may make it, too
                client.upsert_global_concurrency_limit_by_name(incident.limit, incident.senders)

        def are_given() -> bool:
            nonlocal pending
            refused.update(side_by_side(one, pending, _AT_ONCE))
            pending = [(host, attempt) for host, attempt in pending if refused[host.name] and host.name not in forever]
            return not pending

        poll_until(are_given, patience, _AGAIN_SECONDS)
    known = carry_on or {}
    lost = {name: Lost(why, attempts[name], known.get(name, "")) for name, why in refused.items() if why}
    for name, order in lost.items():
        logger.error("%s: %s", name, order.why)
    return lost


def cancel_waiting(
    client: SyncPrefectClient, rows: Iterable[Row], why: str, name: str = "Cancelled"
) -> tuple[list[str], list[str]]:
    """Cancel the orders that no worker has taken. What a worker has taken is left alone.

    Returns the hosts whose orders are cancelled, and those of which that failed.
    """
    cancelled, failed = list[str](), list[str]()
    for row in rows:
        if not row.waits:
            continue
        try:
            state = client.read_flow_run(UUID(row.run)).state
            if state is not None and state.is_scheduled():
                client.set_flow_run_state(UUID(row.run), Cancelled(name=name, message=f"not begun: {why}"))
                cancelled.append(row.host)
        except (HTTPError, ObjectNotFound) as error:
            logger.warning("%s is not cancelled: %s", row.host, error)
            failed.append(row.host)
    return cancelled, failed


def decide(client: SyncPrefectClient, rows: Iterable[Row], answer: StopOrThaw, fleet_id: str) -> None:
    """Answer the hosts that ask as a person has decided."""
    for row in (row for row in rows if row.asks):
        inputs = {"decision": answer.decision, "by": answer.by, "why": f"{answer.why} ({fleet_id})".strip()}
        try:
            state = client.read_flow_run(UUID(row.run)).state
            if state is not None and state.is_paused():
                client.resume_flow_run(UUID(row.run), run_input=inputs)
        except (HTTPStatusError, ObjectNotFound) as error:
            logger.warning("%s did not take the answer yet: %s", row.host, error)
