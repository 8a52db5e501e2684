"""The campaign of neighbours: what shares the host or the root with a workload is not signalled, and is told of."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment
from tasks.custody.incident.description import TRAINING
from tasks.runtime.context import Suspects
from tests.support.neighbours import NEIGHBOURS, Beside, Neighbour, lacking
from tests.support.run_context import case_of, made
from tests.support.strangers import at_work, multiprocessing, training
from tests.support.workloads import wait_until

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a neighbour an account of its own"),
]


@dataclass(frozen=True)
class After:
    """An evacuation, with neighbours beside it: its words, whom it told of, and whom the workload has left."""

    contained: Containment
    told: frozenset[int]
    beside: tuple[Beside, ...]
    root: Path


def evacuated(neighbours: tuple[Neighbour, ...], suspects: Suspects, folder: Path) -> Iterator[After]:
    """Evacuate a workload with two workers while its neighbours are at work."""
    folder.mkdir(exist_ok=True)
    stranger = training("a training", multiprocessing("fork"), 2)
    with ExitStack() as stack:
        workload, account = stack.enter_context(at_work(stranger, folder / "workload"))
        for place in (workload.root, workload.root / "src", workload.root / "logs"):
            place.chmod(0o777)
        beside = [Beside(each, workload.root, folder / f"beside {number}") for number, each in enumerate(neighbours)]
        for each in beside:
            stack.enter_context(each.account)
            each.start()
        for each in beside:
            each.settle()
        excuses = [each.bystanders for each in neighbours if each.bystanders]
        usual = {"training_pattern": TRAINING, "bystanders": excuses}
        with case_of(workload.model_copy(update=usual)) as context:
            context.run = replace(context.run, suspects=suspects)
            cordon.fn(context)
            wait_until(lambda: IncidentCordon(context).wait().held, what="the guard's turn")
            for step in (freeze, stop, prove_contained, watch):
                step.fn(context)
            contained: Containment = made(prove_still_contained.fn(context))
            told = {int(each.partition(":")[0]) for each in contained.left_alone}
            told |= {each.identity.pid for each in contained.unknown}
            told |= {int(each["object"]) for each in context.log.entries() if each["action"] == "excused"}
        wait_until(lambda: not account.lives(), 30, "the workload's end")
        yield After(contained, frozenset(told), tuple(beside), workload.root)


QUICK = tuple(each for each in NEIGHBOURS if not each.soak and not lacking(each))


@pytest.fixture(scope="module", params=[pytest.param("name", marks=pytest.mark.soak), "include"])
def after(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[After]:
    """Evacuated once with all that need no download."""
    yield from evacuated(QUICK, request.param, tmp_path_factory.mktemp("neighbours"))


def require_untouched(beside: Beside) -> None:
    assert beside.seen() == beside.before
    assert beside.signals() == []


def require_told(after: After, beside: Beside) -> None:
    """Whoever works in the root, and whoever only looks like the workload."""
    near = [pid for pid, each in beside.before.items() if Path(each.folder).is_relative_to(after.root)]
    near += beside.before if beside.neighbour.own_root else []
    assert near
    assert [beside.before[pid] for pid in near if pid not in after.told] == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", [each.name for each in NEIGHBOURS if not each.soak])
def test_a_neighbour_goes_on_as_it_was(after: After, name: str) -> None:
    require_untouched(of(after, name))


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", [each.name for each in NEIGHBOURS if not each.soak])
def test_a_neighbour_is_told_of(after: After, name: str) -> None:
    require_told(after, of(after, name))


def of(after: After, name: str) -> Beside:
    found = [each for each in after.beside if each.neighbour.name == name]
    return found[0] if found else pytest.skip(f"what {name} needs is not installed")


def test_neighbours_do_not_contradict_containment_and_one_that_nobody_named_is_a_question(after: After) -> None:
    assert after.contained.is_contained, after.contained.alive
    unnamed = {pid for each in after.beside if each.neighbour.unnamed for pid in each.before}
    assert {each.identity.pid for each in after.contained.unknown} == unnamed


@pytest.mark.soak
@pytest.mark.parametrize("suspects", ["name", "include"])
@pytest.mark.parametrize("neighbour", [pytest.param(each, id=each.name) for each in NEIGHBOURS if each.soak])
def test_a_large_neighbour_goes_on_and_is_told_of(neighbour: Neighbour, suspects: Suspects, tmp_path: Path) -> None:
    if program := lacking(neighbour):
        pytest.skip(f"{program} is not installed")
    for after in evacuated((neighbour,), suspects, tmp_path):
        (beside,) = after.beside
        require_untouched(beside)
        require_told(after, beside)
        assert after.contained.is_contained, after.contained.alive
