"""A real loky training with eight workers, contained at any moment of its life: nothing survives, however it began."""

import random
import time
from pathlib import Path

import psutil
import pytest
import uvicorn

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

SITE = str(Path(uvicorn.__file__).parents[1])
LOKY = """
from joblib import Parallel, delayed
def burn(number):
    total = 0
    for step in range(3_000_000):
        total += step * number
    return total
while True:
    Parallel(n_jobs=8)(delayed(burn)(number) for number in range(16))
"""
WORKERS = 8
RUNS = 50
SAMPLE = random.Random(20261124).sample(range(RUNS), 2)  # noqa: S311  a sample, not a secret


def workers(small: SmallWorkload) -> list[psutil.Process]:
    return [process for process in small.living() if "popen_loky" in " ".join(words_of(process))]


def begin(small: SmallWorkload, chance: random.Random) -> None:
    """Start as people do: by hand or in the background of a script; wait for a moment, mostly in mid-run."""
    (small.root / "src/train.py").write_text(LOKY)
    (small.root / "nightly.sh").write_text(f"{' '.join(small.training_command)} &\nwait\n")
    started = small.start(chance.choice([None, ["bash", "nightly.sh"]]), PYTHONPATH=SITE)
    small.start(small.api_command)
    if chance.random() < 0.7:
        wait_until(lambda: len(workers(small)) == WORKERS, what="eight workers")
    time.sleep(chance.uniform(0, 1))
    if chance.random() < 0.25:
        started.kill()


def contain_at_a_moment_of(small: SmallWorkload, number: int) -> None:
    begin(small, random.Random(number))  # noqa: S311  it can be repeated
    with case_of(small.block(grace_seconds=2)) as context:
        cordon.fn(context)
        frozen = made(freeze.fn(context))
        assert frozen.settled
        stopped = made(stop.fn(context))
        contained = made(prove_contained.fn(context))
        assert contained.is_contained, contained.summary
        assert stopped.is_complete, stopped.summary
        survivors = {process.pid for process in small.living()} & {each.identity.pid for each in stopped.processes}
        assert not survivors
    wait_until(lambda: not small.living(), what="the end of the script that started it")


@pytest.mark.parametrize("number", SAMPLE)
def test_nothing_survives_at_a_seeded_moment(small: SmallWorkload, number: int) -> None:
    contain_at_a_moment_of(small, number)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(RUNS))
def test_nothing_survives_at_any_moment(small: SmallWorkload, number: int) -> None:
    contain_at_a_moment_of(small, number)
