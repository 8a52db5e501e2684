"""Retention: what is asked, until when, and what an object lacks of it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.store.retention import NOTHING, Lock, Retention

OPENED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  UTC is given


def test_nothing_is_asked_of_a_store_unless_the_block_asks() -> None:
    assert not NOTHING
    assert Retention("governance", 1)
    assert Retention(hold=True)
    assert NOTHING.lacking("", None, held=False, since=OPENED) == ""


asks = st.builds(Retention, st.sampled_from(["", "governance", "compliance"]), st.integers(0, 36_500), st.booleans())


@given(asks, asks)
def test_the_stronger_of_two_satisfies_both(one: Retention, other: Retention) -> None:
    both = one.stronger(other)
    assert both == other.stronger(one) == both.stronger(one)
    until = OPENED + timedelta(days=both.days) if both.lock else None
    for each in (one, other):
        assert each.lacking(both.lock, until, held=both.hold, since=OPENED) == ""


@given(times, st.integers(1, 36_500))
def test_a_lock_lasts_its_days_and_ends_with_a_day(now: datetime, days: int) -> None:
    until = Retention("governance", days).until(now)
    assert timedelta(days) < until - now <= timedelta(days + 1)
    assert (until.hour, until.minute, until.second, until.microsecond) == (0, 0, 0, 0)
    assert until.tzinfo is UTC


@given(times, st.integers(1, 36_500), st.timedeltas(timedelta(0), timedelta(900)), st.booleans())
def test_what_is_locked_as_asked_lacks_nothing_however_late_it_is_sent(
    opened: datetime,
    days: int,
    later: timedelta,
    hold: bool,  # noqa: FBT001
) -> None:
    for lock in ("governance", "compliance"):
        asked = Retention(lock, days, hold)
        until = asked.until(opened + later)
        assert asked.lacking(lock, until, held=hold, since=opened) == ""
        assert asked.lacking("compliance", until, held=True, since=opened) == ""


@pytest.mark.parametrize(
    ("asked", "lock", "until", "held", "told"),
    [
        (
            Retention("governance", 30),
            "",
            None,
            True,
            "it is not locked, or the lock is hidden without s3:GetObjectRetention; governance for 30 days was asked",
        ),
        (Retention("governance", 30), "governance", OPENED + timedelta(29), False, "until 2026-01-31, not until 2026"),
        (Retention("compliance", 30), "governance", OPENED + timedelta(31), False, "governance mode, compliance was"),
        (Retention("compliance", 30), "", OPENED + timedelta(31), False, "an unknown mode"),
        (Retention(hold=True), "compliance", OPENED + timedelta(31), False, "not under legal hold"),
        (Retention("governance", 1, hold=True), "governance", OPENED + timedelta(2), False, "not under legal hold"),
    ],
)
def test_what_is_lacking_is_told(asked: Retention, lock: Lock, until: datetime | None, held: bool, told: str) -> None:  # noqa: FBT001
    assert told in asked.lacking(lock, until, held=held, since=OPENED)
