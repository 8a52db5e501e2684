"""The worker asks for what is due by the server's clock, which it learns from each answer."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tasks.worker.server_clock import ServerClock


@pytest.mark.parametrize("hours", [-5, 0, 7])
def test_it_tells_the_servers_time_whatever_this_hosts_is(hours: int) -> None:
    clock = ServerClock()
    there = datetime.now(UTC) + timedelta(hours=hours)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=60), "nothing was told yet"
    clock.note(format_datetime(there, usegmt=True))
    first = clock.now()
    assert timedelta(seconds=-1) <= first - there < timedelta(seconds=60)
    clock.note(None)
    assert clock.now() > first, "it goes on by itself"
