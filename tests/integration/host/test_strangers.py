"""The campaign of strangers: workloads that we did not write, contained as root and as their own account.

Each runs under an account of its own, whose tasks the kernel counts: "contained" with one of them alive is a false
word, and so is "not contained" with none.
"""

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.runtime.context import Suspects
from tasks.system.priority import give_way, take_priority
from tests.support.accounts import PROJECT, Account
from tests.support.run_context import case_of, made
from tests.support.strangers import ENDED, PASSING, STRANGERS, Stranger, at_work, missing
from tests.support.workloads import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a workload an account of its own")
LIMITED = ("fork chain", "gunicorn")
BY_DEFAULT = ("renamed", "gunicorn")
"""Tried in the suite too: by their own account, and without their suspects."""


@dataclass(frozen=True)
class Told:
    """The last word of an evacuation."""

    contained: bool
    alive: tuple[str, ...]


def contain(workload: Workload, suspects: Suspects) -> Told:
    """§1 to §3 as the flow does them, with both checks, at the priority of its runs: others compute on this machine."""
    with case_of(workload) as context, ExitStack() as after:
        take_priority()
        after.callback(give_way)
        context.run = replace(context.run, suspects=suspects)
        cordon.fn(context)
        wait_until(lambda: IncidentCordon(context).wait().held, what="the guard's turn")
        freeze.fn(context)
        stop.fn(context)
        first = made(prove_contained.fn(context))
        watch.fn(context)
        last = made(prove_still_contained.fn(context))
    return Told(first.is_contained and last.is_contained, last.alive if first.is_contained else first.alive)


def contain_as_the_account(workload: Workload, suspects: Suspects, account: Account) -> Told:
    """Do that by a run that has no more rights than the workload; where others' workers work it may not read."""
    own = workload.model_copy(update={"worker_pattern": "no such worker"})
    fields = own.model_dump_json(exclude_unset=True)
    places = {"PYTHONPATH": str(PROJECT), "PREFECT_HOME": str(account.folder)}
    told = account.run([sys.executable, __file__, suspects], fields, **places)
    given: dict[str, Any] = json.loads(told.splitlines()[-1])
    return Told(given["contained"], tuple(given["alive"]))


def require_a_true_word(told: Told, account: Account) -> None:
    """What was said is what the kernel counts; who is alive is named, or that they pass."""
    if account.lives():
        assert not told.contained, f"called contained, and there live: {account.told()}"
        named = {int(pid) for each in told.alive if (pid := each.partition(":")[0]).isdigit()}
        passing = any(PASSING in each for each in told.alive)
        assert passing or named & account.processes().keys(), f"nobody who lives is named: {told}; {account.told()}"
    else:
        passed = any(PASSING in each for each in told.alive)  # the guard may catch them after the check
        assert told.contained or passed, f"nobody lives any more, but {told}"


def cases(suspects: tuple[Suspects, ...], *, quick: bool) -> list[Any]:
    """In the suite each is contained with its suspects, and some by default, where the word is another then."""
    return [
        pytest.param(stranger, suspect, id=f"{stranger.name}, {suspect}")
        for stranger in STRANGERS
        for suspect in suspects
        if quick is (not stranger.soak and (suspect == "include" or stranger.name in BY_DEFAULT))
    ]


def try_as_root(stranger: Stranger, suspects: Suspects, folder: Path) -> None:
    if lacking := missing(stranger):
        pytest.skip(f"{lacking} is not installed")
    with at_work(stranger, folder) as (workload, account):
        told = contain(workload, suspects)
        require_a_true_word(told, account)
        if suspects == "include" or stranger.by_default == ENDED:
            assert told.contained, told
        else:
            assert not told.contained
            assert any(stranger.by_default in each for each in told.alive), told


def try_as_its_account(stranger: Stranger, suspects: Suspects, folder: Path) -> None:
    if lacking := missing(stranger):
        pytest.skip(f"{lacking} is not installed")
    with at_work(stranger, folder) as (workload, account):
        require_a_true_word(contain_as_the_account(workload, suspects, account), account)


BOTH: tuple[Suspects, ...] = ("include", "name")


@pytest.mark.sample(4)
@pytest.mark.parametrize(("stranger", "suspects"), cases(BOTH, quick=True))
def test_as_root_nothing_survives_and_no_word_is_false(stranger: Stranger, suspects: Suspects, tmp_path: Path) -> None:
    try_as_root(stranger, suspects, tmp_path / "place")


@pytest.mark.soak
@pytest.mark.parametrize(("stranger", "suspects"), cases(BOTH, quick=False))
def test_as_root_nothing_survives_of_the_others(stranger: Stranger, suspects: Suspects, tmp_path: Path) -> None:
    try_as_root(stranger, suspects, tmp_path / "place")


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("stranger", [pytest.param(each, id=each.name) for each in STRANGERS if each.name in LIMITED])
def test_with_the_workloads_own_rights_no_word_is_false(stranger: Stranger, tmp_path: Path) -> None:
    try_as_its_account(stranger, "include", tmp_path / "place")


@pytest.mark.soak
@pytest.mark.parametrize("suspects", BOTH)
@pytest.mark.parametrize("stranger", [pytest.param(each, id=each.name) for each in STRANGERS])
def test_with_the_workloads_own_rights_no_word_is_false_of_any(
    stranger: Stranger, suspects: Suspects, tmp_path: Path
) -> None:
    try_as_its_account(stranger, suspects, tmp_path / "place")


if __name__ == "__main__":
    last = contain(Workload.model_validate_json(sys.stdin.read()), "include" if sys.argv[1] == "include" else "name")
    print(json.dumps({"contained": last.contained, "alive": last.alive}))
