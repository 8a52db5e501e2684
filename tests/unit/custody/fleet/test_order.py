"""An order: read as it is written, refused if it is not one, and who is asked when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.fleet.host_order import Order, fleet_tag, new_fleet_id, parse_fleet_id
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.fleet.places import key_at, place_of

OPENED = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
ID = "FL-20261126T140000Z-lab-1f3a"
INCIDENT = FleetIncident(
    id=ID,
    name="lab",
    opened_at=OPENED,
    opened_by="a person",
    reason="credentials leaked",
    policy="kill",
    recover=False,
    store="fleet",
    order_seconds=3600,
    ask_after_seconds=900,
    ask_above=2,
    ask_seconds=600,
    unanswered="thaw",
    senders=16,
    hosts=(TargetHost("gpu1", "d1", "pool", "gpu1", "s1"), TargetHost("gpu2", problem="no deployment evacuate/gpu2")),
)


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)), st.integers(1, 99))
def test_an_order_is_read_as_it_is_written(not_after: datetime, ask_from: datetime, attempt: int) -> None:
    order = Order(ID, "gpu1", attempt, not_after, ask_from, 900, "stop", "fleet-send-lab")
    assert Order.of(order.parameters) == order
    assert order.key == f"{ID}:gpu1:{attempt}"


@pytest.mark.parametrize(
    "change",
    [
        {"fleet": "IR-1"},
        {"host": "../gpu1"},
        {"not_after": "2026-11-26T14:00:00"},
        {"not_after": None},
        {"unanswered": "perhaps"},
        {"attempt": "x"},
    ],
)
def test_what_is_no_order_is_not_guessed_at(change: dict[str, Any]) -> None:
    good = INCIDENT.order(INCIDENT.hosts[0], 1, OPENED).parameters
    with pytest.raises((ValueError, TypeError)):
        Order.of({**good, **change})
    with pytest.raises(KeyError):
        Order.of({"fleet": ID})
    assert Order.of(None) is None
    assert Order.of({}) is None


def test_the_first_attempt_counts_from_the_trigger_and_a_retry_from_now() -> None:
    host, later = INCIDENT.hosts[0], OPENED + timedelta(hours=5)
    assert INCIDENT.order(host, 1, later) == INCIDENT.order(host, 1, OPENED), "made again, it is the same"
    first, again = INCIDENT.order(host, 1, later), INCIDENT.order(host, 2, later)
    assert first.not_after == OPENED + timedelta(hours=1)
    assert first.is_expired(later)
    assert again.not_after == later + timedelta(hours=1)
    assert first.key != again.key


def test_above_the_limit_every_host_asks_and_below_it_those_that_come_late() -> None:
    host, late = INCIDENT.hosts[0], OPENED + timedelta(seconds=900)
    below, above = INCIDENT, replace(INCIDENT, ask_above=1)
    assert (below.asks_all, above.asks_all, replace(INCIDENT, ask_above=None).asks_all) == (False, True, False)
    assert replace(INCIDENT, ask_above=0).asks_all
    assert above.order(host, 1, OPENED).asks(OPENED)
    assert not below.order(host, 1, OPENED).asks(late - timedelta(seconds=1))
    assert below.order(host, 1, OPENED).asks(late)
    after = late + timedelta(seconds=1)
    assert [below.in_time(began, 1, OPENED) for began in (late, after, None)] == [True, False, False]
    assert below.in_time(after, 2, after), "a retry is decided anew"


def test_an_incident_is_read_as_it_is_written() -> None:
    assert FleetIncident.of(INCIDENT.facts) == INCIDENT
    assert (INCIDENT.limit, replace(INCIDENT, senders=0).limit) == ("fleet-send-lab", "")


def test_ids_of_one_second_differ_by_their_runs() -> None:
    assert new_fleet_id(OPENED, "lab", "1f3a0000-0000") == ID
    assert fleet_tag(ID) == f"fleet:{ID}"
    for text in ("", "FL-x", f"{ID}/..", "FL-20261126T140000Z-Lab-1f3a", "IR-20261126T140000Z"):
        with pytest.raises(ValueError, match="expected an id of a fleet"):
            parse_fleet_id(text)


@pytest.mark.parametrize(
    ("fleet", "host", "beneath"),
    [
        ({"bucket": "b", "prefix": "f"}, {"bucket": "b", "prefix": "hosts/gpu1"}, "hosts/gpu1"),
        ({"bucket": "b", "endpoint": None}, {"bucket": "b", "prefix": ""}, ""),
        ({"bucket": "b", "endpoint": "https://a"}, {"bucket": "b", "prefix": "p", "endpoint": "https://c"}, None),
        ({"bucket": "b"}, {"bucket": "other", "prefix": "p"}, None),
        ({"bucket": "b"}, {"folder": "/srv/e"}, None),
        ({"folder": "/srv/e"}, {"folder": "/srv/e/gpu1"}, "gpu1"),
        ({"folder": "/srv/e"}, {"folder": "/srv/e"}, ""),
        ({"folder": "/srv/e"}, {"folder": "/srv/elsewhere"}, None),
        ({"folder": "/srv/e"}, {}, None),
    ],
)
def test_where_a_host_lies_in_the_bucket_of_its_fleet(
    fleet: dict[str, Any], host: dict[str, Any], beneath: str | None
) -> None:
    assert place_of(fleet, host) == beneath
    assert beneath is None or key_at(beneath, "incidents/x").endswith("incidents/x")
