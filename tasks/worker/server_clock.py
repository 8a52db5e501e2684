"""Know the time by the Prefect server's clock: a host that is behind would be given each run so much too late."""

import time
from datetime import UTC, datetime, timedelta

from tasks.system.server_date import time_told


class ServerClock:
    """The server's clock as its latest answer told it, carried on by this host's time since boot, which nobody sets."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._at_boot: datetime | None = None

    def note(self, date: str | None) -> timedelta:
        """Take the `Date` of an answer that has just come; without a valid one nothing changes.

        Returns by how much the clock was put forward; negative if it was put back.
        """
        before = self.now()
        if told := time_told(date):
            self._at_boot = told - _since_boot()
        return self.now() - before

    def now(self) -> datetime:
        """Return the server's time; this host's as long as the server has told none."""
        return self._at_boot + _since_boot() if self._at_boot else datetime.now(UTC)


def _since_boot() -> timedelta:
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
