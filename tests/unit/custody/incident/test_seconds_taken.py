"""How long an incident took: from the first request to the last frozen process, or to the check that found it so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.incident.timeline import seconds_taken

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def opened(seconds: float) -> dict[str, Any]:
    return {"action": "run opened", "utc": at(seconds + 1), "triggered": at(seconds)}


def frozen(seconds: float | None) -> dict[str, Any]:
    return {"action": "frozen", "utc": at(99), "at": "None" if seconds is None else at(seconds)}


def check(seconds: float, action: str, step: str = "prove_contained") -> dict[str, Any]:
    return {"action": action, "utc": at(seconds), "step_id": step}


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([opened(0), frozen(0.5), frozen(2.25), frozen(None)], 2.25),
        ([opened(0)], 0.0),
        ([opened(0), frozen(0.5), check(4, "step done")], 0.5),
        ([opened(0), frozen(0.5), check(4, "step incomplete"), check(7, "step done", "prove_still_contained")], 7.0),
        ([opened(0), frozen(0.5), check(4, "step failed"), opened(60), check(63, "step done")], 63.0),
        ([opened(0), frozen(0.5), check(4, "step incomplete", "collect"), check(7, "step done")], 0.5),
        ([opened(0), frozen(0.5), opened(60), frozen(61)], 61.0),
    ],
)
def test_contained(entries: list[dict[str, Any]], seconds: float) -> None:
    told = seconds_taken(entries, START + timedelta(seconds=100), contained=True)
    assert told == {"contained_s": seconds, "total_s": 100.0}
    assert seconds_taken(entries, START + timedelta(seconds=100), contained=False) == {**told, "contained_s": None}


def test_a_log_without_a_request_has_no_figures() -> None:
    told = seconds_taken([{"action": "run opened", "utc": at(0)}], START, contained=True)
    assert told == {"contained_s": None, "total_s": None}


@given(st.lists(st.floats(0, 50), max_size=5), st.lists(st.tuples(st.floats(50, 90), st.booleans()), max_size=4))
def test_it_is_never_told_shorter_than_the_last_look_that_found_something(
    times: list[float], checks: list[tuple[float, bool]]
) -> None:
    looks = [check(when, "step done" if done else "step incomplete") for when, done in sorted(checks)]
    last = check(95, "step done", "prove_still_contained")
    entries = [opened(0), *map(frozen, times), *looks, last]
    contained = seconds_taken(entries, START + timedelta(seconds=100), contained=True)["contained_s"]
    assert contained is not None
    assert contained >= round(max([0.0, *times, *(when for when, done in checks if not done)]), 3) - 0.001
    assert contained <= 95
