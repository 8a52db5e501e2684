"""Ask for the time by the Prefect server's clock: a host's own may be wrong, and the hosts of a fleet have to agree."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.system.server_date import time_told

AT_ONCE: Final = {PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 0}
"""Settings under which a client asks once, and for five seconds at most."""


def server_time(client: SyncPrefectClient) -> datetime:
    """Return the time by the clock of the client's server; by this host's if the server's answer has none.

    Raises an error of httpx if the server does not answer.
    """
    return time_told(client.hello().headers.get("date")) or datetime.now(UTC)


def server_time_if_told() -> datetime | None:
    """Return the time by the Prefect server's clock; None if it does not tell within five seconds. Never raises."""
    with (
        suppress(HTTPError, ValueError, RuntimeError),
        temporary_settings(AT_ONCE),
        get_client(sync_client=True) as client,
    ):
        return time_told(client.hello().headers.get("date"))
    return None
