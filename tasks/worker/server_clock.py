"""Know the time by the Prefect server's clock: a host whose own is late would be given each run so much too late."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


class ServerClock:
    """The server's clock as its latest answer told it, carried on by this host's boot time, which nobody sets."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._at_boot: datetime | None = None

    def note(self, date: str | None) -> None:
        """Take the `Date` of an answer that has just come (RFC 9110, whole seconds). Without one it changes nothing."""
        if date:
            self._at_boot = parsedate_to_datetime(date) - _since_boot()

    def now(self) -> datetime:
        """Return the server's time; this host's as long as the server has told none."""
        return self._at_boot + _since_boot() if self._at_boot else datetime.now(UTC)


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
