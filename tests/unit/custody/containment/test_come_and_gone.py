"""What comes and goes between two looks is an alarm only if it is the workload's."""

from pathlib import PurePath

from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.membership import Matcher
from tasks.custody.containment.passing import come_and_gone
from tasks.custody.containment.process import Identity, Process

ROOT = PurePath("/srv/work load")
TRAIN = (Matcher("training", "train"),)


def one(pid: int, parent: int = 1, *, command: str = "train", cwd: str = str(ROOT), exe: str = "/opt/x") -> Process:
    return Process(Identity(pid, pid), parent, "S", (command,), cwd, exe)


@given(st.integers(0, 6), st.integers(0, 50))
def test_three_are_enough_and_others_work_does_not_count(ours: int, others: int) -> None:
    passed = [one(pid) for pid in range(10, 10 + ours)]
    passed += [one(pid, cwd="/build") for pid in range(100, 100 + others)]
    found = come_and_gone(passed, {}, TRAIN, ROOT, (), 0)
    assert found.keys() == ({process.identity for process in passed[:ours]} if ours >= 3 else set())


def test_a_living_shells_programs_are_a_persons_unless_they_match() -> None:
    shell = one(5, command="bash", exe="/usr/bin/bash")
    listed = [one(pid, 5, command="ls", exe="/usr/bin/ls") for pid in (10, 11, 12)]
    assert come_and_gone(listed, {5: shell}, TRAIN, ROOT, (), 0) == {}
    assert len(come_and_gone(listed, {}, TRAIN, ROOT, (), 0)) == 3
    assert len(come_and_gone([one(pid, 5) for pid in (10, 11, 12)], {5: shell}, TRAIN, ROOT, (), 0)) == 3
    assert come_and_gone(listed, {}, TRAIN, ROOT, [10, 11, 12], 0) == {}
    assert come_and_gone(listed, {}, TRAIN, ROOT, (), since=99) == {}
