"""Many at a time: in order, not all begun at once, and the first error is the one that is told."""

from collections.abc import Iterator
from itertools import count, islice
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tasks.system.parallel import QUESTIONS, THREADS, side_by_side


class Broken(Exception):
    """What this test raises, and nothing else does."""


@pytest.mark.slow
def test_an_endless_source_is_read_no_further_than_it_is_asked_for() -> None:
    assert list(islice(side_by_side(lambda number: number * 2, count()), 5)) == [0, 2, 4, 6, 8]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(bad=some.sets(some.integers(0, 3000), min_size=1))
def test_whatever_fails_its_own_error_is_raised_and_no_other(bad: set[int]) -> None:
    def act(number: int) -> int:
        if number in bad:
            raise Broken
        return number

    got = list[int]()
    with pytest.raises(Broken):
        got.extend(side_by_side(act, range(3001)))
    assert got == list(range(len(got)))


@pytest.mark.parametrize(
    ("threads", "many", "few"), [(THREADS, 100, 1), (QUESTIONS, 200, 1), (THREADS, 5000, 16), (QUESTIONS, 9000, 16)]
)
def test_after_an_error_nothing_more_is_begun(threads: int, many: int, few: int) -> None:
    together, begun = Barrier(threads), list[int]()

    def act(number: int) -> None:
        begun.append(number)
        together.wait(20)
        raise Broken

    with pytest.raises(Broken):
        list(side_by_side(act, range(many), threads))
    assert sorted(begun) == list(range(0, threads * few, few))


def numbers(seen: list[int]) -> Iterator[int]:
    for number in count():
        seen.append(number)
        yield number


def test_only_so_many_are_begun_ahead() -> None:
    seen = list[int]()
    assert next(side_by_side(lambda number: number, numbers(seen))) == 0
    assert len(seen) < 4200
