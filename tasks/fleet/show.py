"""Show the table of a fleet in the UI, as one artifact that is updated in place. Best effort."""

import logging
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from tasks.custody.fleet.host_end import Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.table import freezes, headline, lines
from tasks.fleet.frame import answers_of, has_key
from tasks.rendering.curve import curve
from tasks.rendering.document import Both

logger = logging.getLogger(__name__)

CONTAINED: Final = Both("封じ込めたホスト", "hosts contained")


def progress_key(fleet: str) -> str:
    """Return the key of a fleet's progress in the UI."""
    return f"fleet-{fleet}"


def contained_picture(incident: FleetIncident, rows: Sequence[Row]) -> str:
    """Return the picture of hosts contained over time."""
    moments = [row.contained_at for row in rows if row.contained_at]
    return curve(CONTAINED, incident.opened_at, moments, len(rows))


class ProgressTable:
    """The progress of one fleet."""

    def __init__(self, incident: FleetIncident, run: str) -> None:
        """Show nothing yet."""
        self._incident, self._run = incident, run
        self._artifact: UUID | None = None
        self._text = ""

    def show(self, client: SyncPrefectClient, rows: Sequence[Row], contained_at: datetime | None) -> None:
        """Log the table and update the artifact if anything has changed."""
        table = [*lines(self._incident, rows, contained_at)]
        with suppress(HTTPError):
            if has_key():  # else this host cannot have sent a frame
                triggered = client.read_flow_run(UUID(self._incident.opener)).created
                table += freezes(rows, answers_of(client, self._incident), triggered or self._incident.opened_at)
        text = "\n".join(table)
        if text == self._text:
            return
        self._text = text
        logger.info("%s", text)
        title = f"{self._incident.id}: {headline(self._incident, rows, contained_at)}"
        with suppress(Exception):
            picture = b64encode(contained_picture(self._incident, rows).encode()).decode()
            data = f"```text\n{text.replace('`', 'ˋ')}\n```\n\n![](data:image/svg+xml;base64,{picture})\n"
            if self._artifact:
                client.update_artifact(self._artifact, ArtifactUpdate(description=title, data=data))
            else:
                key, run = progress_key(self._incident.name), UUID(self._run)
                artifact = ArtifactCreate(key=key, type="markdown", description=title, data=data, flow_run_id=run)
                self._artifact = client.create_artifact(artifact).id
