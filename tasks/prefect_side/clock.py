"""Ask for the time by the Prefect server's clock: a host's own may be wrong, and the hosts of a fleet have to agree.

See docs/adr/0037.
"""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.system.server_date import parse_date_header

AT_ONCE: Final = {PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 0}
"""Settings under which a client asks once, and for five seconds at most."""


def server_time(client: SyncPrefectClient) -> datetime:
    """Return the time by the clock of the client's server; by this host's if the server's answer has none.

    Raises an error of httpx if the server does not answer.
    """
    return parse_date_header(client.hello().headers.get("date")) or datetime.now(UTC)


def find_server_time() -> datetime | None:
    """Return the time by the Prefect server's clock; None if it does not answer within five seconds. Never raises."""
    with (
        suppress(HTTPError, ValueError, RuntimeError),
        temporary_settings(AT_ONCE),
        get_client(sync_client=True) as client,
    ):
        return parse_date_header(client.hello().headers.get("date"))
    return None


class ServerClock:
    """The server's clock, by the Date header of its latest answer and this host's time since boot."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._at_boot: datetime | None = None

    def note(self, date: str | None) -> timedelta:
        """Take the `Date` of an answer that has just come; without a valid one nothing changes.

        Returns by how much the clock was put forward; negative if it was put back.
        """
        before = self.now()
        if server_time := parse_date_header(date):
            self._at_boot = server_time - _since_boot()
        return self.now() - before

    def now(self) -> datetime:
        """Return the server's time; this host's until the server has sent one."""
        return self._at_boot + _since_boot() if self._at_boot else datetime.now(UTC)


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
