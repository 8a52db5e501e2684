"""Format times for people: in JST and UTC on pages, in the host's zone on its terminals."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

JST: Final = timezone(timedelta(hours=9), "JST")


def both_times(moment: datetime) -> tuple[str, str]:
    """Return a time in JST and in UTC, to the millisecond."""
    jst, utc = moment.astimezone(JST), moment.astimezone(UTC)
    return f"{_digits(jst)} JST", f"{_digits(utc)} UTC"


def here(text: str) -> str:
    """Return a time of the record in this host's zone, to the second, for a terminal; any other text as it is."""
    with suppress(ValueError, OverflowError):
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    return text


def short(moment: datetime | None) -> str:
    """Return a time in JST without its year; empty for None."""
    return _digits(moment.astimezone(JST))[5:] if moment else ""


def clock(moment: datetime) -> str:
    """Return the time of day in JST."""
    return _digits(moment.astimezone(JST))[11:]


def _digits(moment: datetime) -> str:
    return moment.isoformat(" ", "milliseconds")[:23]
