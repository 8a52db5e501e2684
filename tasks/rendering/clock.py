"""Format times for people, in Japan's time and in UTC."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

JST: Final = timezone(timedelta(hours=9), "JST")


def both_times(moment: datetime) -> tuple[str, str]:
    """A moment in JST and in UTC, to the millisecond."""
    jst, utc = moment.astimezone(JST), moment.astimezone(UTC)
    return f"{_digits(jst)} JST", f"{_digits(utc)} UTC"


def short(moment: datetime | None) -> str:
    """A moment in JST without its year; empty if there was none."""
    return _digits(moment.astimezone(JST))[5:] if moment else ""


def clock(moment: datetime) -> str:
    """The time of the day in JST."""
    return _digits(moment.astimezone(JST))[11:]


def _digits(moment: datetime) -> str:
    return moment.isoformat(" ", "milliseconds")[:23]
