"""No word of an evacuation claims more than is so, whoever lives on the host and whatever fails meanwhile."""

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.simulate import simulate

SEEDS = range(1, 401)
SOON = {"unknown": 1003}
"""Faults that are found at once, and the seed that finds them."""


@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_word_claims_more_than_is_so(seed: int) -> None:
    story = simulate(seed)
    assert not story.false, f"make simulate SEED={seed} RUNS=1 TELL=1: {story.false[0]}"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_can_still_be_put_back(name: str) -> None:
    """Its words are where they were: a mend that was rewritten needs its fault rewritten."""
    assert FAULTS[name].broken_code.co_code


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SOON else pytest.mark.soak) for name in FAULTS]
)
@pytest.mark.timeout(1800)
def test_a_fault_that_is_put_back_is_found(name: str) -> None:
    """And the same scene without it is sound."""
    begin = SOON.get(name, 1000)
    found = (seed for seed in range(begin, begin + 600) if simulate(seed, FAULTS[name].put_back).false)
    assert not simulate(next(found)).false
