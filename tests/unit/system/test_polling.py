"""A wait asks at least once, ends with the condition or its time, and passes on what is raised."""

from signal import SIGTERM

import pytest

from tasks.system.cancellation import Cancellation
from tasks.system.polling import poll_until


@pytest.mark.parametrize("after", [0, 1, 5])
def test_it_returns_what_the_condition_gives_as_soon_as_that_is_true(after: int) -> None:
    answers = iter([*[""] * after, "ready", "late"])
    assert poll_until(lambda: next(answers), 60, 0) == "ready"


def test_it_asks_once_where_no_time_is_left_and_returns_the_last_answer() -> None:
    answers = iter(["", "late"])
    assert not poll_until(lambda: next(answers), -1)
    assert next(answers) == "late"


def test_what_the_condition_raises_ends_the_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        poll_until(lambda: 1 / 0, 60)


def test_a_run_that_is_told_to_end_waits_no_longer() -> None:
    cancelled, calls = Cancellation(), list[int]()

    def is_done() -> bool:
        calls.append(1)
        if len(calls) == 2:
            cancelled.order(SIGTERM)
        return False

    assert not poll_until(is_done, 60, 0, cancelled)
    assert len(calls) == 2
