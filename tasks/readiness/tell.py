"""Keep the findings of a run with the Prefect server, and raise an event if an evacuation has become less ready."""

import logging
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun

from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import DEGRADED, NOT_READY
from tasks.custody.incident.ending import READY as SOUND
from tasks.custody.incident.news import News
from tasks.custody.incident.readiness import NIGHTS, Readiness, nights
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.people.announce import announce
from tasks.readiness.report import page
from tasks.readiness.runs import READY, runs_of

logger = logging.getLogger(__name__)

EVENT: Final = "evacuation.readiness.worse"
"""A check of readiness is worse than in the run before; of the run, with its state and message."""
_LABEL: Final = "evacuation.readiness."


def history(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """Return the last runs of a workload's deployment that have ended in a state of readiness, oldest first."""
    return runs_of(client, full_name(READY, name), [SOUND.name, DEGRADED.name, NOT_READY.name], 2 * NIGHTS)[::-1]


def draw_nights(runs: list[FlowRun], *now: tuple[date, str]) -> str:
    """Draw the last 30 days from these runs, and the one that ends now."""
    ends = [(run.end_time.date(), str(run.state_name)) for run in runs if run.end_time]
    return nights([*ends, *now], datetime.now(UTC).date())


def tell(name: str, run: str, readiness: Readiness) -> None:
    """Show the findings in the UI, keep them for the next run, and raise the event if something became worse."""
    with get_client(sync_client=True) as client:
        runs = history(client, name)
        text = page(name, readiness, draw_nights(runs, (datetime.now(UTC).date(), readiness.ending.name)))
        create_markdown_artifact(text, key=f"ready-{name}".lower(), description=f"{readiness.ending.name} 準備状況")
        labels: dict[str, Any] = {f"{_LABEL}{check}": weight for check, weight in readiness.weights.items()}
        client.update_flow_run_labels(UUID(run), labels)
    for each in readiness.bad:
        logger.warning("%s: %s. %s. %s", each.name, each.found, each.matters, each.cure)
    before = {key.removeprefix(_LABEL): value for key, value in (runs[-1].labels if runs else {}).items()}
    if worse := readiness.worse_than(before):
        message = visible(f"worse than before: {', '.join(worse)}. {readiness.message}", LINE_LIMIT)
        announce(run, f"{READY} {name}", News(readiness.ending.name, message), EVENT, worse=worse)
