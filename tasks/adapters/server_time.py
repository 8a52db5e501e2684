"""Tell the time by the Prefect server's clock: a host's own may be wrong, and the hosts of a fleet have to agree."""

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client


def server_time(client: SyncPrefectClient) -> datetime:
    """Return the server's time, to the second (RFC 9110, `Date`); this host's if it does not tell. Never raises."""
    with suppress(HTTPError, KeyError, ValueError):
        return parsedate_to_datetime(client.hello().headers["date"])
    return datetime.now(UTC)


def time_of_the_server() -> datetime:
    """Return the same, asked by a client of its own."""
    with get_client(sync_client=True) as client:
        return server_time(client)
