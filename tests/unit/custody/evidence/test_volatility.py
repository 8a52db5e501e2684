"""The order of volatility: what was taken out of it is named with a reason, and what was not is not."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.acquisition import Evidence, Outcome, StoredFile
from tasks.custody.evidence.volatility import Deviation, deviations

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
FILE = StoredFile("x", "", 1, "0" * 64)
ORDER = {"processes": 1, "sockets": 2, "logs": 3, "models": 4}


def took(name: str, start: float, end: float, *, volume: int = 1, outcome: Outcome = Outcome.COLLECTED) -> Evidence:
    began, ended = (BEGAN + timedelta(seconds=each) for each in (start, end))
    files = (FILE,) if outcome is Outcome.COLLECTED else ()
    return Evidence(name, True, False, outcome, "", began, ended, volume, files)


def test_in_order_or_side_by_side_nothing_deviates() -> None:
    in_order = [took(name, number, number + 0.5) for number, name in enumerate(ORDER)]
    at_once = [took(name, 0, 1) for name in ORDER]
    assert list(deviations(in_order, ORDER, {})) == []
    assert list(deviations(at_once, ORDER, {})) == []


def test_what_began_after_less_volatile_ones_had_ended_is_named_with_them() -> None:
    found = list(deviations([took("models", 0, 1), took("sockets", 2, 3), took("logs", 0, 2)], ORDER, {}))
    assert found == [
        Deviation("sockets", ("models", "logs"), "taken side by side, and the others were done before this one began")
    ]


def test_the_reason_is_a_later_run_a_second_try_or_the_budget() -> None:
    def reason(late: Evidence, tries: int = 1) -> str:
        (found,) = deviations([took("logs", 0, 1), late], ORDER, {late.collector: tries})
        return found.reason

    assert reason(took("sockets", 2, 3, volume=2)) == "taken again by a later run of the incident"
    assert reason(took("sockets", 2, 3), tries=2) == "tried again, 2 times in all"
    assert "used up" in reason(took("sockets", 2, 3, outcome=Outcome.TIMED_OUT))


def test_whoever_had_nothing_to_take_was_before_nobody() -> None:
    assert list(deviations([took("logs", 0, 1, outcome=Outcome.EMPTY), took("sockets", 2, 3)], ORDER, {})) == []


def test_a_collector_that_this_version_does_not_know_has_no_order() -> None:
    assert list(deviations([took("models", 0, 1), took("unknown", 2, 3)], ORDER, {})) == []


@given(st.lists(st.tuples(st.sampled_from(list(ORDER)), st.integers(0, 5), st.integers(0, 5)), max_size=6))
def test_a_deviation_is_exactly_a_pair_out_of_order(attempts: list[tuple[str, int, int]]) -> None:
    taken = {name: took(name, start, start + length) for name, start, length in attempts}
    pairs = {
        (late.collector, early.collector)
        for late in taken.values()
        for early in taken.values()
        if ORDER[early.collector] > ORDER[late.collector] and early.ended_at <= late.started_at
    }
    found = {(each.collector, name) for each in deviations([*taken.values()], ORDER, {}) for name in each.after}
    assert found == pairs
