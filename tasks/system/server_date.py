"""Read the time of a server's clock from its answers."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

AGREE: Final = timedelta(seconds=2)
"""Two clocks that differ by less agree: the header has whole seconds, and the answer was under way."""


def parse_date_header(date: str | None) -> datetime | None:
    """Return the server's time from the `Date` header (RFC 9110) of a response received just now; None if invalid.

    Where this host's clock agrees with it, that is the host's time, which is more precise.
    """
    try:
        parsed = parsedate_to_datetime(date or "")
    except (TypeError, ValueError, OverflowError):
        return None
    if parsed.tzinfo is None:
        return None
    now = datetime.now(UTC)
    return now if abs(now - parsed) <= AGREE else parsed.astimezone(UTC)
