"""How long an incident took: until the last process or container stood, or until the check that found it so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.incident.timeline import describe_ran_on, requests, seconds_taken, took

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def opened(seconds: float) -> dict[str, Any]:
    return {"action": "run opened", "utc": at(seconds + 1), "triggered": at(seconds)}


def frozen(seconds: float | None) -> dict[str, Any]:
    return {"action": "frozen", "utc": at(99), "at": "None" if seconds is None else at(seconds)}


def denied(action: str = "frozen") -> dict[str, Any]:
    return {"action": action, "utc": at(1), "at": "None", "denied": "Operation not permitted"}


def paused(seconds: float | None, written: float = 3) -> dict[str, Any]:
    when = "None" if seconds is None else at(seconds)
    return {"action": "container paused", "utc": at(written), "at": when, "denied": ""}


def stopped(seconds: float, ran: float) -> dict[str, Any]:
    return {"action": "stopped", "utc": at(99), "ran_s": ran, "ran_until": at(seconds)}


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
        ([opened(0), frozen(0.5), paused(2.7), check(4, "step done")], 2.7),
        ([opened(0), paused(0.25), frozen(0.5), check(4, "step done")], 0.5),
        ([opened(0), paused(None, written=3.1), check(4, "step done")], 3.1),  # killed between two starts
        ([opened(0), {"action": "container paused", "utc": at(2), "denied": ""}], 2.0),  # of an earlier version
        ([opened(0), frozen(0.5), denied(), check(4, "step done")], 4.0),
        ([opened(0), frozen(0.5), denied("container paused"), check(4, "step done"), check(9, "step done")], 4.0),
        ([opened(0), frozen(0.5), denied("engine not asked"), check(4, "step done")], 4.0),
        ([opened(0), frozen(0.5), {"action": "engine not asked", "utc": at(1)}, check(4, "step done")], 0.5),  # a note
    ],
)
def test_contained(entries: list[dict[str, Any]], seconds: float) -> None:
    told = seconds_taken(entries, START + timedelta(seconds=100), contained=True)
    assert told == {"contained_s": seconds, "total_s": 100.0}
    assert seconds_taken(entries, START + timedelta(seconds=100), contained=False) == {**told, "contained_s": None}


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([stopped(32.8, 30.0), stopped(5, 2.0), {"action": "stopped", "utc": at(40)}], 32.8),
        ([stopped(6, 1.5), stopped(7, 0.3)], 6.0),  # a second is not told
        ([stopped(6, 0.9)], None),
        ([stopped(2, 1.5), frozen(3)], None),  # of a run before the one in which all stood
        ([{"action": "stopped", "utc": at(40)}], None),  # it never ran, or an earlier version wrote it
    ],
)
def test_what_a_grace_let_run_after_all_stood_is_told_until_it_had_ended(
    entries: list[dict[str, Any]], seconds: float | None
) -> None:
    every = [opened(0), frozen(2.07), *entries, check(41, "step done")]
    until = START + timedelta(seconds=100)
    told = seconds_taken(every, until, contained=True)
    assert told.get("stopped_s") == seconds
    assert ("stopped_s" in took(told, 1)) == bool(seconds)
    said = describe_ran_on(told)
    assert bool(said) == bool(seconds)
    assert not seconds or f"(contained_s=2.07), until stopped_s={seconds:.2f} at the latest" in said
    assert "stopped_s" not in seconds_taken(every, until, contained=False)


def test_a_log_without_a_request_has_no_figures() -> None:
    told = seconds_taken([{"action": "run opened", "utc": at(0)}], START, contained=True)
    assert told == {"contained_s": None, "total_s": None}


@pytest.mark.parametrize(
    ("runs", "facts", "words"),
    [
        (1, {"contained_s": 0.5, "total_s": 2}, "contained_s=0.50  total_s=2.00"),
        (
            2,
            {"contained_s": 63.0, "total_s": 70},
            "contained_s=63.00  total_s=70.00 since the incident's first request",
        ),
        (2, {"contained_s": None, "total_s": 70}, "total_s=70.00 since the incident's first request"),
        (2, {}, ""),
    ],
)
def test_a_run_that_carries_an_incident_on_says_from_when_it_counts(
    runs: int, facts: dict[str, Any], words: str
) -> None:
    entries = [entry for number in range(runs) for entry in (opened(number), frozen(number))]
    assert took(facts, requests(entries)).removesuffix(" 最初の指示から") == words


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
