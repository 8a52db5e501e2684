"""The time at a server is read from the head of its answers; what is no time there is none."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tasks.system.server_date import parse_date_header


@pytest.mark.parametrize("hours", [-30000, -1, 1, 9000])
def test_a_clock_that_differs_is_told_as_it_is(hours: int) -> None:
    there = (datetime.now(UTC) + timedelta(hours=hours)).replace(microsecond=0)
    assert parse_date_header(format_datetime(there, usegmt=True)) == there


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_where_the_clocks_agree_it_is_this_hosts_more_precise_time(seconds: int) -> None:
    before = datetime.now(UTC)
    told = parse_date_header(format_datetime(before + timedelta(seconds=seconds), usegmt=True))
    assert told is not None
    assert before <= told <= datetime.now(UTC)


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "soon",
        "Fri, 27 Nov 2026 06:00:00",
        "Fri, 27 Nov 2026 06:00:00 -0000",
        "Fri, 27 Nov 2026 06:00:00 GMT, Fri, 27 Nov 2026 06:00:00 GMT",
        "Fri, 99 Nov 2026 06:00:00 GMT",
        "Fri, 27 Nov 99999 06:00:00 GMT",
    ],
)
def test_what_is_no_time_with_a_zone_is_none(date: str | None) -> None:
    assert parse_date_header(date) is None
