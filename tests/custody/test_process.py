"""Which signal each process heeds."""

from signal import SIGCONT, SIGINT, SIGTERM, Signals

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.process import Identity, Masks, Process, copies, gentle_signal


def mask(*numbers: Signals) -> int:
    return sum(1 << (number - 1) for number in numbers)


@pytest.mark.parametrize(
    ("masks", "heeded"),
    [
        (Masks(), SIGINT),
        (Masks(caught=mask(SIGINT)), SIGINT),
        (Masks(ignored=mask(SIGINT)), SIGTERM),
        (Masks(blocked=mask(SIGINT)), SIGTERM),
        (Masks(blocked=mask(SIGINT), caught=mask(SIGINT)), SIGTERM),
        (Masks(ignored=mask(SIGTERM)), SIGINT),
        (Masks(ignored=mask(SIGINT, SIGTERM)), None),
        (Masks(blocked=mask(SIGINT), ignored=mask(SIGTERM)), None),
        (Masks(blocked=2**64 - 1), None),
        (Masks(ignored=mask(SIGCONT)), SIGINT),
    ],
)
def test_the_gentle_signal_is_one_that_the_process_heeds(masks: Masks, heeded: Signals | None) -> None:
    assert gentle_signal(masks) is heeded


@given(st.builds(Masks, *[st.integers(0, 2**64 - 1)] * 3))
def test_a_gentle_signal_is_never_blocked_or_ignored(masks: Masks) -> None:
    chosen = gentle_signal(masks)
    if chosen is None:
        assert not masks.heeds(SIGINT)
        assert not masks.heeds(SIGTERM)
    else:
        assert not (masks.blocked | masks.ignored) & mask(chosen)


def kin(pid: int, parent: int, state: str = "S", *, forked: bool = False) -> Process:
    return Process(Identity(pid, pid), parent, state, forked=forked)


def test_a_copy_is_a_child_that_has_not_become_another_program_while_its_parent_lives() -> None:
    seen = [
        kin(10, 1),
        kin(11, 10, forked=True),
        kin(12, 11, forked=True),
        kin(13, 10),
        kin(14, 13, forked=True),
        kin(20, 1, "Z"),
        kin(21, 20, forked=True),
        kin(30, 1, forked=True),
    ]
    snapshot = {process.pid: process for process in seen}
    assert copies(snapshot, [10, 20, 99]) == {11}
    assert copies(snapshot, [10, 11, 13]) == {12, 14}
