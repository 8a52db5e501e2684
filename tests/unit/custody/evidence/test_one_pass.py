"""One reading for many: each taker gets every block in order, and no error is swallowed."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.one_pass import pass_on


@given(st.lists(st.binary(max_size=9), max_size=20), st.integers(min_value=1, max_value=4))
def test_each_taker_gets_every_block_in_order(blocks: list[bytes], takers: int) -> None:
    taken = [list[bytes]() for _ in range(takers)]
    pass_on(iter(blocks), [each.append for each in taken])
    assert taken == [blocks] * takers


def test_takers_work_at_the_same_time_and_the_source_is_not_read_far_ahead() -> None:
    both, read = threading.Barrier(2, timeout=30), list[int]()

    def blocks() -> Iterator[bytes]:
        for number in range(50):
            read.append(number)
            yield bytes([number])

    def meet(block: bytes) -> None:
        assert len(read) <= block[0] + 10
        both.wait()

    pass_on(blocks(), [meet, meet])
    assert len(read) == 50


@pytest.mark.parametrize("count", [1, 2, 30])
def test_an_error_of_any_taker_is_raised_and_ends_the_reading(count: int) -> None:
    read, taken = list[int](), list[bytes]()

    def blocks() -> Iterator[bytes]:
        for number in range(count):
            read.append(number)
            yield b"x"

    def full(_: bytes) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        pass_on(blocks(), [taken.append, full])
    assert len(read) <= 10


def test_an_error_of_the_source_is_raised() -> None:
    def blocks() -> Iterator[bytes]:
        yield from (b"a", b"b", b"c")
        raise OSError("a bad block")

    taken = list[bytes]()
    with pytest.raises(OSError, match="a bad block"):
        pass_on(blocks(), [taken.append])
    assert taken == [b"a", b"b", b"c"]
