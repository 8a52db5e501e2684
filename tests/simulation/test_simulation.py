"""No word of an evacuation claims more than is so, whoever lives on the host and whatever fails meanwhile."""

from pathlib import Path
from random import Random

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.oracle import false_words
from tests.simulation.run import Event, Order, ran
from tests.simulation.simulate import draw_world, simulate

SEEDS = range(1, 401)
SOON = {"unknown": 1006}
"""Faults that are found at once, and the seed that finds them."""
MISSED = {"leftover"}
"""It takes three runs: a collector fails, works and is killed before its result is kept, and fails again."""


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
    "name",
    [pytest.param(each, marks=() if each in SOON else pytest.mark.soak) for each in FAULTS if each not in MISSED],
)
@pytest.mark.timeout(1800)
def test_a_fault_that_is_put_back_is_found(name: str) -> None:
    """And the same scene without it is sound."""
    begin = SOON.get(name, 1000)
    found = (seed for seed in range(begin, begin + 600) if simulate(seed, FAULTS[name].put_back).false)
    assert not simulate(next(found)).false


@pytest.mark.sample(6)
@pytest.mark.parametrize("seed", range(1, 401))
def test_an_act_that_fails_once_costs_no_run_its_end(seed: int, tmp_path: Path) -> None:
    """Each step's second try does what the first has left, and no more: on disk, in the store, on the host."""
    ends = list[str]()
    for name, errs in (("sound", False), ("failing", True)):
        rng = Random(seed)  # noqa: S311  it draws scenes
        (tmp_path / name).mkdir()
        world = draw_world(rng, tmp_path / name)
        world.host.systemd.failing.clear()
        policy, act = rng.choice(("graceful", "kill")), rng.randint(1, 225)
        fault = (Event("fail", act if seed % 4 else act % 40),) if errs else ()
        orders = [Order(policy=policy, events=fault)]
        if seed % 4 == 0:
            orders = [Order(policy=policy, events=(Event("kill", 20),)), Order(act="thaw", events=fault)]
        for order in orders:
            end = ran(world, order)
        assert false_words(world, end) == [], orders
        halted = {pid for pid, each in world.host.processes.items() if each.state == "T"}
        ends.append(f"{end.name} {len(halted - world.stood)}: {end.trouble}")
    assert ends[0] == ends[1], (end.message, orders)
