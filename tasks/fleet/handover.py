"""Hand orders that the server did not take to the run at work on the fleet, which repeats and reports them."""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Final
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate

from tasks.custody.fleet.incident import FleetIncident
from tasks.fleet.hosts import read_artifacts
from tasks.fleet.orders import Lost
from tasks.runtime.progress import artifact_key

logger = logging.getLogger(__name__)

_NAME: Final = "lost"
_JSON: Final = re.compile(r"```json\n(.*)\n```", re.DOTALL)


def hand_over(incident: FleetIncident, lost: Mapping[str, Lost]) -> None:
    """Write down which orders were not taken. Best effort: this run's end names them, too."""
    data = json.dumps({host: asdict(order) for host, order in lost.items()}, indent=2)
    title = f"{incident.id}: orders that the server did not take; the run at work repeats them 未受理の指示"
    key, page = artifact_key(_NAME, incident.id), f"```json\n{data}\n```"
    try:
        with get_client(sync_client=True) as client:
            client.create_artifact(ArtifactCreate(key=key, type="markdown", data=page, description=title))
    except HTTPError as error:
        logger.error("The run at work does not hear of the lost orders: %s", error)  # noqa: TRY400  it says it all


def read_handover(client: SyncPrefectClient, fleet_id: str) -> tuple[UUID | None, dict[str, Lost]]:
    """Return the last note of lost orders, by its id; no orders if there is none, or if it cannot be read."""
    found = read_artifacts(client, artifact_key(_NAME, fleet_id))
    if not found or not (text := _JSON.search(str(found[0].data))):
        return None, {}
    with suppress(AttributeError, TypeError, ValueError):
        orders = {str(host): Lost(**order) for host, order in json.loads(text[1]).items()}
        return found[0].latest_id, {host: order for host, order in orders.items() if order.attempt > 0}
    return None, {}
