"""The freeze, look by look, on paper: when it has settled, what is asked of groups, and what is written down."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePath
from signal import SIGSTOP, Signals
from typing import Any

import pytest

from tasks.containment import freeze as steps
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containment_check import prove_contained, stance
from tasks.containment.control_groups import Groups
from tasks.containment.freeze import freeze, halt
from tasks.containment.release.wrappers import Wrappers
from tasks.custody.containment.identity import Identity, Way
from tasks.custody.containment.receipt import Freeze
from tasks.custody.errors import EngineError
from tasks.custody.incident.stance import Stance
from tasks.host.process.handles import Handles
from tasks.host.process.membership import Member
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import load_frozen
from tasks.system import polling
from tests.support.memory_engine import ASKED, container, engine_of
from tests.support.paper_clock import PaperClock
from tests.support.paper_host import PaperGroup, PaperHost, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
MEMBER = Member("training", "matches the training pattern")


class LookedAt(PaperHost):
    """A host that counts the looks at it, before each of which something may happen; `stuck` obey no signal."""

    def __init__(self, *processes: Process, root: PurePath) -> None:
        """Nobody has looked."""
        super().__init__(*processes, root=root)
        self.looks = 0
        self.happens: Callable[[int], object] = lambda _: None
        self.stuck: set[int] = set()
        self.denied: set[int] = set()

    def snapshot(self) -> dict[int, Process]:
        """Look."""
        self.looks += 1
        self.happens(self.looks)
        return super().snapshot()

    def signal(self, identity: Identity, number: Signals) -> None:
        """Deny it, or send it."""
        if identity.pid in self.denied:
            raise PermissionError
        super().signal(identity, number)
        if identity.pid in self.stuck:
            self.processes[identity.pid] = replace(self.processes[identity.pid], state="D")


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as context:
        context.adapters.host = LookedAt(root=small.root)
        yield context


def host_of(run: RunContext) -> LookedAt:
    assert isinstance(run.adapters.host, LookedAt)
    return run.adapters.host


def add(run: RunContext, number: int, **about: Any) -> Process:
    one = process(number, TRAINING, cwd=str(run.directory.root), **about)
    host_of(run).processes[one.pid] = one
    return one


def frozen(run: RunContext) -> Freeze:
    result: Freeze = made(freeze.fn(run))
    return result


def test_who_runs_is_stopped_and_two_looks_are_enough(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    catches = list[int]()
    monkeypatch.setattr(steps, "time", PaperClock(0.5))
    monkeypatch.setattr(Groups, "catch", lambda _: catches.append(0))
    one, two = add(run, 1), add(run, 2, state="T")
    result = frozen(run)
    assert result.settled
    assert [(each.identity, each.stood, each.denied) for each in result.processes] == [
        (one.identity, False, ""),
        (two.identity, True, ""),
    ]
    assert all(each.frozen_at for each in result.processes)
    assert {each.state for each in run.adapters.host.snapshot().values()} == {"T"}
    assert [number for _, number in host_of(run).sent] == [SIGSTOP, SIGSTOP]
    assert catches == []
    assert result.waiting == ()


def test_those_that_come_at_each_look_are_caught_by_groups_until_the_time_is_up(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, catches = PaperClock(0.001), list[int]()
    monkeypatch.setattr(steps, "time", clock)
    monkeypatch.setattr(Groups, "catch", lambda _: catches.append(host_of(run).looks))
    began = clock.now

    def happens(look: int) -> None:
        clock.sleep(0.5)
        add(run, look)

    host_of(run).happens = happens
    result = frozen(run)
    assert not result.settled
    assert began + 10 <= clock.now < began + 25
    assert catches[:1] == [2]


def test_one_that_is_woken_between_two_looks_is_stopped_again(run: RunContext) -> None:
    one, two = add(run, 1), add(run, 2)

    def happens(look: int) -> None:
        if look in {2, 3}:
            host_of(run).processes[one.pid] = one

    host_of(run).happens = happens
    result = frozen(run)
    assert result.settled
    assert [who for who, number in host_of(run).sent if number is SIGSTOP] == [one.pid, two.pid, one.pid, one.pid]
    assert {each.state for each in run.adapters.host.snapshot().values()} == {"T"}
    assert [each.identity for each in result.processes] == [one.identity, two.identity]


def test_a_group_of_members_is_held_in_place_although_new_ones_come(run: RunContext) -> None:
    own = PaperGroup(host_of(run), "/of.its/own")
    host_of(run).groups = {own.path: own}

    def happens(look: int) -> None:
        if not own.is_frozen and look < 6:
            add(run, look, cgroup=f"0::{own.path}\n")

    host_of(run).happens = happens
    result = frozen(run)
    assert result.settled
    assert {each.way for each in result.processes} == {Way.IN_PLACE}


def test_one_that_may_not_be_stopped_is_written_down_with_the_reason(run: RunContext) -> None:
    one = add(run, 1, user=77)
    host_of(run).denied = {one.pid}
    (told,) = frozen(run).processes
    assert (told.denied, told.frozen_at) == ("SIGSTOP denied, it belongs to user 77", None)
    assert load_frozen(run.state)[one.identity].denied


def test_one_in_an_uninterruptible_wait_is_named(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "time", PaperClock(0.01))
    one, other = add(run, 1), add(run, 2)
    host_of(run).stuck = {one.pid}
    result = frozen(run)
    assert [told.split()[0] for told in result.waiting] == [str(one.pid)]
    assert other.pid != one.pid


def test_when_the_first_was_frozen_is_kept_by_later_runs(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    add(run, 1)
    for now in (500, 900):
        monkeypatch.setattr(steps, "ticks", lambda now=now: now)
        frozen(run)
    assert run.state.since.read() == 500


def test_what_is_frozen_is_written_down_before_bystanders_are_looked_for(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no look")

    monkeypatch.setattr(steps, "let_go", broken)
    one = add(run, 1)
    with pytest.raises(OSError, match="no look"):
        steps.freeze.fn(run)
    assert load_frozen(run.state).keys() == {one.identity}


def test_what_we_have_frozen_does_not_stand_by_itself_in_a_later_run(run: RunContext) -> None:
    add(run, 1)
    assert [each.stood for each in frozen(run).processes] == [False]
    assert [each.stood for each in frozen(run).processes] == [False]


@pytest.mark.parametrize(
    ("state", "early", "stood", "since_early"),
    [("T", True, False, True), ("S", True, False, False), ("T", False, True, False), ("S", False, False, False)],
)
def test_the_early_freeze_counts_if_what_it_stopped_still_stands(
    state: str,
    early: bool,  # noqa: FBT001
    stood: bool,  # noqa: FBT001
    since_early: bool,  # noqa: FBT001
) -> None:
    one = process(1, state=state)
    then = datetime(2026, 1, 2, tzinfo=UTC)
    told = halt(PaperHost(one), one, MEMBER, then if early else None)
    assert (told.stood, told.frozen_at == then) == (stood, since_early)


def test_how_it_stands_if_the_engine_cannot_be_asked(small: SmallWorkload) -> None:
    with case_of(small.block(containers=ASKED)) as run:
        run.adapters.host = LookedAt(root=small.root)
        engine = engine_of(run, container(1))
        add(run, 1)
        frozen(run)
        assert stance(run, None) == Stance.FROZEN
        engine.change(container(1).id, state="running")
        assert stance(run, None) == Stance.NOT_CONTAINED
        engine.change(container(1).id, state="paused")

        def silent(*_: str) -> None:
            raise EngineError("an answer", "none", "It is not known.", "Look at it.")

        engine.before = silent
        assert stance(run, None) == Stance.NOT_CONTAINED


@pytest.mark.parametrize(
    ("state", "stands"), [("S", Stance.FROZEN_AS_FAR_AS_KNOWN), ("T", Stance.FROZEN), ("Z", Stance.FROZEN)]
)
def test_frozen_is_said_of_what_is_known_where_somebody_unknown_runs_in_the_root(
    run: RunContext, state: str, stands: Stance
) -> None:
    add(run, 1)
    frozen(run)
    stranger = process(2, ("/opt/packer",), cwd=str(run.directory.root), executable="/opt/packer", state=state)
    host_of(run).processes[stranger.pid] = stranger
    assert stance(run, None) == stands


def test_one_that_ends_as_its_files_are_read_is_left_out_of_the_check(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the snapshot, and nothing of it was read."""
    gone, held = add(run, 1), add(run, 2)
    frozen(run)
    host = host_of(run)
    read = host.handles

    def ends(processes: Iterable[Process], *about: Collection[Any]) -> dict[Identity, Handles]:
        host.processes.pop(gone.pid, None)
        return read(processes, *about)

    monkeypatch.setattr(host, "handles", ends)
    assert stance(run, None) == Stance.FROZEN
    host.processes[gone.pid] = gone
    alive = made(prove_contained.fn(run)).alive
    assert [line.partition(":")[0] for line in alive if "train.py" in line] == [str(held.pid)]


def once(monkeypatch: pytest.MonkeyPatch, where: object, name: str, skipped: int = 0) -> None:
    """Let one call of it fail, after so many that do not."""
    act, calls = getattr(where, name), list[int]()

    def failing(*given: Any, **more: Any) -> Any:
        calls.append(0)
        if len(calls) == skipped + 1:
            raise OSError(f"{name} fails for a moment")
        return act(*given, **more)

    monkeypatch.setattr(where, name, failing)


SEAMS = [
    (LookedAt, "signal", 1),
    (LookedAt, "snapshot", 1),
    (Groups, "hold_in_place", 0),
    (Groups, "churns", 0),
    (steps, "describe", 0),
    (Wrappers, "note", 0),
    (steps, "load_frozen", 0),
    (steps, "let_go", 0),
    (steps, "take_over", 0),
    (steps, "_confirm", 0),
    (WorkloadContainers, "freeze", 0),
]


@pytest.mark.parametrize(("where", "name", "skipped"), SEAMS, ids=[name for _, name, _ in SEAMS])
def test_a_second_try_takes_what_the_first_has_stopped_for_nobody_elses(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, where: object, name: str, skipped: int
) -> None:
    """Whatever it failed at: of those that stood before a thaw continues none, of the others each."""
    monkeypatch.setattr(steps, "time", PaperClock(0.01))
    one, two, stood = add(run, 1), add(run, 2), add(run, 3, state="T")
    once(monkeypatch, where, name, skipped)
    began = datetime.now(UTC)
    with pytest.raises(OSError, match="for a moment"):
        freeze.fn(run)
    between, ticked = datetime.now(UTC), run.first_try.freeze_began
    three = add(run, 4)
    result = frozen(run)
    told = {each.identity: each for each in result.processes}
    assert {who: each.stood for who, each in told.items()} == {
        one.identity: False, two.identity: False, stood.identity: True, three.identity: False,
    }  # fmt: skip
    assert told.keys() == load_frozen(run.state).keys()
    assert result.settled
    assert {each.state for each in run.adapters.host.snapshot().values()} == {"T"}
    early = told[one.identity].frozen_at
    assert early
    assert began <= early <= between
    assert run.state.since.read() == ticked
