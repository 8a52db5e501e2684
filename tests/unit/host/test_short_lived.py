"""Who comes and goes between two looks: how long is looked, and who is told of."""

import os
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from tasks.containment.containment_check import prove_contained
from tasks.host import short_lived
from tasks.host.process.process import Process
from tasks.host.short_lived import met_in_passing
from tasks.system import polling
from tests.support.paper_clock import PaperClock
from tests.support.paper_host import PaperHost, process
from tests.support.places import beside
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Containment

STAYS, GOES = process(1), process(2)
COLLECTOR = process(50, parent=os.getpid())


class BusyHost(PaperHost):
    """A host on which somebody comes at every look, and which may take its time for one."""

    def __init__(self, clock: PaperClock, seconds: float = 0.0) -> None:
        """One stays, and nobody has come yet."""
        super().__init__(STAYS)
        self.clock, self.seconds, self.looks = clock, seconds, 0

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Both, each time."""
        self.looks += 1
        self.clock.sleep(self.seconds)
        return last + 1, [STAYS, GOES]


@pytest.mark.parametrize(
    ("seconds", "looks", "passed"),
    [(0.0, 300, (0.3, 0.7)), (0.003, 300, (0.9, 2.0)), (0.1, 18, (2.0, 2.3))],
    ids=["idle", "busy", "so busy that few looks are had"],
)
def test_it_looks_long_enough_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, seconds: float, looks: int, passed: tuple[float, float]
) -> None:
    clock = PaperClock(0.0)
    host, began = BusyHost(clock, seconds), clock.now
    monkeypatch.setattr(short_lived, "time", clock)
    monkeypatch.setattr(polling, "time", clock)
    assert met_in_passing(host, 7) == [GOES]
    assert looks <= host.looks <= looks * 6
    assert passed[0] <= clock.now - began <= passed[1]


def test_where_no_pid_was_given_out_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PaperClock()
    began = clock.now
    monkeypatch.setattr(short_lived, "time", clock)
    monkeypatch.setattr(polling, "time", clock)
    assert met_in_passing(PaperHost(STAYS), 7) == []
    assert clock.now == began


class Passed(PaperHost):
    """A host on which the same have come and gone at each look."""

    def __init__(self, *passed: Process, root: PurePath) -> None:
        """Nobody stays."""
        super().__init__(root=root)
        self.passed = [beside(each, root) for each in passed]

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """All of them."""
        return last + 1, self.passed


class Collecting(Passed):
    """A host on which one of our collectors runs programs in the root, and has ended when they have."""

    def __init__(self, *passed: Process, root: PurePath) -> None:
        """It is seen once."""
        super().__init__(*passed, root=root)
        self.processes = {COLLECTOR.pid: COLLECTOR}

    def snapshot(self) -> dict[int, Process]:
        """The look at which it ends."""
        seen = super().snapshot()
        self.processes.clear()
        return seen


@pytest.mark.whole
@pytest.mark.slow
def test_programs_of_a_collector_that_ended_with_them_are_ours(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its three calls of df were told to people as a workload that could not be stopped."""
    monkeypatch.setattr(short_lived, "time", PaperClock(0.0))
    with case_of(small.block()) as context:
        context.state.since.write(1)
        each = [
            process(number, ("df", "-h"), cwd=str(context.directory.root), parent=COLLECTOR.pid) for number in (1, 2, 3)
        ]
        context.adapters.host = Collecting(*each, root=small.root)
        found: Containment = made(prove_contained.fn(context))
        assert not [line for line in found.alive if "came and went" in line]
        context.adapters.host = Passed(*each, root=small.root)
        assert [line for line in made(prove_contained.fn(context)).alive if "3 processes came and went" in line]


@pytest.mark.whole
@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("unread", [(), (1,), (1, 2), (1, 2, 3)])
def test_the_way_to_end_who_came_and_went_is_told_by_anyone_whose_group_was_read(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, unread: tuple[int, ...]
) -> None:
    monkeypatch.setattr(short_lived, "time", PaperClock(0.0))
    pod = "0::/kubepods/pod12345678-1234-1234-1234-123456789012/main\n"
    with case_of(small.block(training_pattern="train it")) as context:
        about = {"command": ("/bin/train", "it"), "cwd": str(context.directory.root)}
        each = [process(number, cgroup="" if number in unread else pod, **about) for number in (1, 2, 3)]  # type: ignore[arg-type]  # about is of both
        context.adapters.host = Passed(*each, root=small.root)
        found: Containment = made(prove_contained.fn(context))
    told = [line for line in found.alive if "3 processes came and went" in line]
    assert len(told) == 1
    assert ("kubectl delete pod" in told[0]) is (len(unread) < len(each))
