"""The worker asks for what is due by the server's clock, which it learns from each answer."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tasks.prefect_side.clock import ServerClock


@pytest.mark.parametrize("hours", [-5, 0, 7])
def test_it_tells_the_servers_time_whatever_this_hosts_is(hours: int) -> None:
    clock = ServerClock()
    there = datetime.now(UTC) + timedelta(hours=hours)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=60), "nothing was told yet"
    assert abs(clock.note(format_datetime(there, usegmt=True)) - timedelta(hours=hours)) < timedelta(seconds=60)
    first = clock.now()
    assert timedelta(seconds=-1) <= first - there < timedelta(seconds=60)
    assert abs(clock.note(None)) < timedelta(seconds=1)
    assert abs(clock.note("soon")) < timedelta(seconds=1)
    assert clock.now() > first, "it goes on by itself"
