"""What comes and goes between two looks is an alarm only if it is the workload's."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.host.process.matcher import Matcher, WorkloadDescription
from tasks.host.process.process import Process
from tasks.host.short_lived import come_and_gone
from tests.support.places import beside

ROOT = "/srv/work load"
WORKLOAD = WorkloadDescription(ROOT, (Matcher("training", "train"),))


def one(pid: int, parent: int = 1, *, command: str = "train", cwd: str = ROOT, exe: str = "/opt/x") -> Process:
    return beside(Process(Identity(pid, pid), parent, "S", (command,), cwd, exe), ROOT)


@given(st.integers(0, 6), st.integers(0, 50))
def test_three_are_enough_and_others_work_does_not_count(ours: int, others: int) -> None:
    passed = [one(pid) for pid in range(10, 10 + ours)]
    passed += [one(pid, cwd="/build") for pid in range(100, 100 + others)]
    found = come_and_gone(passed, {}, WORKLOAD, ())
    assert found.keys() == ({process.identity for process in passed[:ours]} if ours >= 3 else set())


def facts(passed: list[Process], *there: Process, excluded: tuple[int, ...] = ()) -> set[str]:
    return set(come_and_gone(passed, {each.pid: each for each in there}, WORKLOAD, excluded).values())


def three(parent: int = 1, **about: str) -> list[Process]:
    return [one(pid, parent, **about) for pid in (10, 11, 12)]


def test_a_living_shells_programs_are_a_persons_unless_they_match() -> None:
    shell = one(5, command="bash", exe="/usr/bin/bash")
    listed = three(5, command="node", exe="/opt/node")
    assert facts(listed, shell) == set()
    assert facts(listed) == facts(listed, replace(shell, state="Z")) == {"it worked in the root"}
    assert facts(three(5), shell) == {"it matches"}
    assert facts(listed, excluded=(10, 11, 12)) == set()
    assert facts(listed, excluded=(10,)) == set()


def test_what_ran_from_the_root_is_named_by_that_and_a_program_that_only_reads_by_nothing() -> None:
    assert facts(three(command="x", exe=f"{ROOT}/x", cwd="/")) == {"its program lies below the root"}
    assert facts(three(command="ls", exe="/usr/bin/ls")) == set()
    assert facts([replace(each, container="c" * 64) for each in three()]) == set()
