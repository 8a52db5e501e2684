"""Which signal each process heeds."""

from signal import SIGCONT, SIGINT, SIGTERM, Signals

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.process import Masks, gentle_signal


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
