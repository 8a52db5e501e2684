"""The kernel holds and ends what no look at /proc catches. Each program runs under a user of its own: it is counted."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tasks.cli.uncordon import let_go
from tasks.containment.containment_check import prove_contained, stance
from tasks.containment.control_groups import Groups
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.uncordon import uncordon
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Way
from tasks.custody.containment.receipt import End
from tasks.guard.__main__ import Guard
from tasks.host.cgroup.group import ControlGroup
from tasks.host.cgroup.ownership import name_of
from tasks.host.host import LinuxHost
from tasks.incident.layout import EARLY, GROUPS
from tasks.incident.run_lock import give_up_ownership
from tasks.prefect_side.scheduler import PrefectScheduler
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import EarlyFreeze, read_early, thaw_again
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import load_frozen
from tests.integration.host.test_cancel import cancelled_when, has
from tests.integration.host.test_early_freeze import described
from tests.support.cases import CHAIN, FAMILY, HEADLESS, HIERARCHY, PATTERN, Case, new_group, path_below
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload, wait_until

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Containment, Freeze, Stop

pytestmark = pytest.mark.skipif(
    HIERARCHY is None or os.geteuid() != 0, reason="no control groups of version 2, or no root to make users with"
)
WAKERS = """
family = [os.getpid()]
for _ in range(3):
    child = os.fork()
    if child == 0: break
    family.append(child)
while True:
    for pid in family:
        if pid != os.getpid(): os.kill(pid, signal.SIGCONT)
    beat(); time.sleep(0.001)
"""
FLEES = """
def flee(*_):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            program = f"while (1) {{ exit if fork; syswrite(S, '.'); select(undef, undef, undef, 0.001) }}"
            os.execv("/usr/bin/perl", ["perl", "-e", f"open(S, '>>&={sign}'); {program}"])
    os._exit(0)
os.set_inheritable(sign, True)
signal.signal(signal.SIGINT, flee if os.fork() else signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: beat(); time.sleep(0.005)
"""
WAITS = """
libc = ctypes.CDLL(None)
if libc.vfork() == 0:
    while True: beat(); time.sleep(0.005)
"""
STUBBORN = FAMILY.replace(
    "while True", "signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN)\nwhile True"
)
Start = Callable[..., Case]


def own_group(root: Path) -> ControlGroup:
    assert HIERARCHY
    return ControlGroup(HIERARCHY.place / name_of(INCIDENT, root / "evidence" / INCIDENT))


@pytest.fixture
def origin() -> Iterator[ControlGroup]:
    """A group that things run in before anybody looks."""
    yield from new_group()


@pytest.fixture
def start(small: SmallWorkload, origin: ControlGroup) -> Iterator[Start]:
    """Start programs, in a group if asked to; all of them end with the test, and the incident's group with them."""
    cases = list[Case]()

    def started(program: str, group: ControlGroup | None = None, root: Path = small.root, **more: bool) -> Case:
        cases.append(Case(root, program, group, **more))
        return cases[-1]

    yield started
    own_group(small.root).kill()
    origin.thaw()
    for case in cases:
        case.end()
    wait_until(lambda: not own_group(small.root).remove(), what="an empty group of the incident")


@pytest.fixture
def context(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(training_pattern=PATTERN, grace_seconds=2)) as opened:
        cordon.fn(opened)
        yield opened


def ways(context: RunContext, case: Case) -> set[Way]:
    pids = {each.pid for each in case.living()}
    return {each.way for each in load_frozen(context.state).values() if each.identity.pid in pids}


def end(context: RunContext, *cases: Case) -> None:
    """Stop, and see that nothing is left of them, by the product's word and by the kernel's."""
    stopped: Stop = made(stop.fn(context))
    assert stopped.is_complete
    assert not any(case.living() or case.runs() for case in cases)
    found: Containment = made(prove_contained.fn(context))
    keepers = tuple(f"{case.keeper.pid}: " for case in cases)  # one that adopts what the guard met counts as its source
    assert [each for each in found.alive if not each.startswith(keepers)] == []
    assert not own_group(context.workload.root).place.exists()


@pytest.mark.whole
@pytest.mark.parametrize("policy", [pytest.param("graceful", marks=pytest.mark.soak), "kill"])
def test_a_fork_chain_is_frozen_ended_and_proven(
    policy: str, start: Start, context: RunContext, tmp_path: Path
) -> None:
    """A look at /proc and a signal to whom it found end nobody: each generation is gone before."""
    chain, bystander = start(CHAIN), start(FAMILY, root=tmp_path)
    context.run = replace(context.run, policy=policy)  # type: ignore[arg-type]  # one of both
    frozen: Freeze = made(freeze.fn(context))
    assert frozen.is_complete
    assert not chain.runs()
    assert chain.states() == {"T"}
    assert ways(context, chain) <= {Way.INCIDENT, Way.SIGNALS}, "by a signal where the guard met one just in time"
    end(context, chain)
    assert bystander.goes_on()


@pytest.mark.whole
@pytest.mark.parametrize("policy", [pytest.param("graceful", marks=pytest.mark.soak), "kill"])
def test_before_linux_5_14_signals_end_who_is_in_a_group(
    policy: str, start: Start, context: RunContext, origin: ControlGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a kernel has no cgroup.kill. What the freeze holds forks nobody, so that a signal to each ends all."""
    write, refused = ControlGroup._write, list[str]()

    def written(self: ControlGroup, name: str, value: str, *accepted: int) -> str:
        if name != "cgroup.kill":
            return write(self, name, value, *accepted)
        refused.append(write(self, "cgroup.kill that is not there", value, *accepted))
        return refused[-1]

    monkeypatch.setattr(ControlGroup, "_write", written)
    chain, stubborn = start(CHAIN), start(STUBBORN, origin)
    context.run = replace(context.run, policy=policy)  # type: ignore[arg-type]  # one of both
    freeze.fn(context)
    end(context, chain, stubborn)
    assert refused
    assert all("No such file or directory" in each for each in refused)


@pytest.mark.whole
def test_who_wakes_each_other_stands_all_the_same(start: Start, context: RunContext) -> None:
    wakers = start(WAKERS)
    frozen: Freeze = made(freeze.fn(context))
    assert frozen.settled
    assert not wakers.runs()
    for process in wakers.living():
        process.send_signal(signal.SIGCONT)
    end(context, wakers)


def test_who_is_born_in_the_grace_is_a_member_whatever_it_makes_of_itself(start: Start, context: RunContext) -> None:
    """A chain of its own session, name and folder, whose parents are all gone: no look and no descent shows it."""
    fleeing = start(FLEES)
    freeze.fn(context)
    assert fleeing.states() == {"T"}
    end(context, fleeing)


@pytest.mark.whole
def test_a_cancelled_run_leaves_nobody_running(start: Start, small: SmallWorkload) -> None:
    fleeing = start(FLEES)
    with case_of(small.block(training_pattern=PATTERN, grace_seconds=60)) as context:
        cordon.fn(context)
        freeze.fn(context)
        before = fleeing.size()
        with cancelled_when(context, lambda: has(context, "deviation") and fleeing.size() > before + 20):
            stop.fn(context)
        assert not fleeing.runs()
        assert fleeing.states() == {"T"}
    with case_of(small.block(training_pattern=PATTERN)) as context:
        freeze.fn(context)
        end(context, fleeing)


@pytest.mark.whole
@pytest.mark.parametrize(
    "program", [FAMILY, CHAIN, pytest.param(HEADLESS, marks=pytest.mark.soak)], ids=["family", "chain", "headless"]
)
def test_a_group_of_members_alone_is_frozen_where_it_is(
    program: str, start: Start, context: RunContext, origin: ControlGroup, tmp_path: Path
) -> None:
    case = start(program, origin)
    frozen: Freeze = made(freeze.fn(context))
    assert frozen.settled
    assert origin.is_frozen
    assert not case.runs()
    assert ways(context, case) == {Way.IN_PLACE}
    assert {case.group(each.pid) for each in case.living()} == {path_below(origin)}
    for process in case.living():
        process.send_signal(signal.SIGCONT)
    assert not case.runs()
    end(context, case)
    assert not origin.is_frozen
    assert start(FAMILY, origin, tmp_path).goes_on(), "what its manager starts in it later must not be born frozen"


@pytest.mark.whole
def test_a_group_that_a_stranger_is_in_is_not_frozen(
    start: Start, context: RunContext, origin: ControlGroup, tmp_path: Path
) -> None:
    case, stranger = start(FAMILY, origin), start(FAMILY, origin, tmp_path)
    freeze.fn(context)
    assert not origin.is_frozen
    assert not case.runs()
    assert ways(context, case) == {Way.SIGNALS}
    end(context, case)
    assert stranger.goes_on()
    assert {stranger.group(each.pid) for each in stranger.living()} == {path_below(origin)}
    assert {each.way for each in made(stop.fn(context)).processes} == {Way.INCIDENT}


@pytest.mark.whole
def test_nobody_is_moved_out_of_an_orchestrators_group(
    start: Start, small: SmallWorkload, origin: ControlGroup
) -> None:
    pod = ControlGroup(origin.place / "kubepods")
    assert not pod.make()
    case = start(CHAIN, pod, apart=True)
    with case_of(small.block(training_pattern=PATTERN, grace_seconds=2)) as context:
        freeze.fn(context)
        stop.fn(context)
        found: Containment = made(prove_contained.fn(context))
    if case.runs():
        assert any("kubectl delete pod" in each for each in found.alive), found.alive
        places = set[str]()
        for each in case.living():
            with suppress(FileNotFoundError, ProcessLookupError):  # a link of the chain lives for a millisecond
                places.add(case.group(each.pid))
        assert places <= {path_below(pod)}


@pytest.mark.whole
@pytest.mark.parametrize(
    "program", [FAMILY, CHAIN, pytest.param(HEADLESS, marks=pytest.mark.soak)], ids=["family", "chain", "headless"]
)
def test_who_was_moved_goes_back_with_the_cordons_release(
    program: str, start: Start, context: RunContext, origin: ControlGroup, tmp_path: Path
) -> None:
    case, stranger = start(program, origin), start(FAMILY, origin, tmp_path)
    freeze.fn(context)
    groups = Groups(context)
    groups.move(context.adapters.host.snapshot()[each.pid] for each in case.living())
    groups.freeze()
    assert {case.group(each.pid) for each in case.living()} == {groups.own}
    assert not uncordon(context.adapters.host, PrefectScheduler(), context.workload, context.log).remaining
    assert {case.group(each.pid) for each in case.living()} == {path_below(origin)}
    assert not own_group(context.workload.root).place.exists()
    assert not (context.directory.path / GROUPS).exists()
    assert not case.runs(), "what an incident has stopped is for that incident to end"
    for process in case.living():
        process.send_signal(signal.SIGCONT)
    assert case.goes_on()
    assert stranger.goes_on()


def test_who_cannot_go_back_runs_where_it_is_and_is_told(
    start: Start, context: RunContext, origin: ControlGroup, tmp_path: Path
) -> None:
    case, _ = start(FAMILY, origin), start(FAMILY, origin, tmp_path)
    freeze.fn(context)
    groups = Groups(context)
    groups.move(context.adapters.host.snapshot()[each.pid] for each in case.living())
    context.state.groups.write([replace(row, group="/gone") if row.identity else row for row in groups.rows])
    told = uncordon(context.adapters.host, PrefectScheduler(), context.workload, context.log).remaining
    assert {int(each.split()[1]) for each in told if each.startswith("process")} == {p.pid for p in case.living()}
    assert all("No such file or directory" in each for each in told[:4])
    for process in case.living():
        process.send_signal(signal.SIGCONT)
    assert case.goes_on()


@pytest.mark.whole
@pytest.mark.parametrize("moment", ["frozen", pytest.param("thawed", marks=pytest.mark.soak)])
def test_a_run_that_is_killed_after_the_move_is_carried_on(moment: str, start: Start, small: SmallWorkload) -> None:
    case = start(CHAIN if moment == "frozen" else FLEES)
    before = case.size()
    run = subprocess.Popen([sys.executable, "-c", RUN, str(small.root), moment], cwd=Path(__file__).parents[3])
    if moment == "thawed":
        wait_until(
            lambda: own_group(small.root).place.exists() and case.size() > before + 20 and case.runs(), what="the grace"
        )
    else:
        wait_until((small.root / "at").exists, what="the freeze")
    run.kill()
    run.wait()
    with case_of(small.block(training_pattern=PATTERN, grace_seconds=2)) as context:
        cordon.fn(context)
        freeze.fn(context)
        assert not case.runs()
        assert stance(context, None) == "frozen, not stopped"
        end(context, case)


RUN = """
import sys, time
from pathlib import Path
from tests.support.cases import PATTERN
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
small = SmallWorkload.__new__(SmallWorkload)
small.root, small.port = Path(sys.argv[1]), 1
with case_of(small.block(training_pattern=PATTERN, grace_seconds=60)) as context:
    freeze.fn(context)
    if sys.argv[2] == "frozen":
        (small.root / "at").touch()
        time.sleep(60)
    stop.fn(context)
"""


@pytest.mark.whole
def test_an_uninterruptible_wait_is_named(start: Start, context: RunContext) -> None:
    case = start(WAITS)
    frozen: Freeze = made(freeze.fn(context))
    waiting = next(each.pid for each in case.living() if each.status() == psutil.STATUS_DISK_SLEEP)
    assert [each.split()[0] for each in frozen.waiting] == [str(waiting)]
    assert "割り込み不可" in frozen.summary
    end(context, case)


def test_a_newcomer_whose_group_is_frozen_is_not_taken_by_the_guard_for_one_that_is_thawed(
    start: Start, small: SmallWorkload, origin: ControlGroup
) -> None:
    with case_of(small.block(training_pattern=PATTERN)) as context:
        guard = Guard(IncidentCordon(context).orders("why"), -1)
        case = start(FAMILY, origin)
        origin.freeze()
        before = {each.pid for each in case.living()}
        for _ in range(6):
            guard.watch()
        assert {each.pid for each in case.living()} == before


def test_a_rehearsal_moves_and_freezes_nobody(start: Start, small: SmallWorkload, origin: ControlGroup) -> None:
    alone, other = start(FAMILY, origin), start(FAMILY)
    with case_of(small.block(training_pattern=PATTERN), dry_run=True) as context:
        freeze.fn(context)
        stop.fn(context)
        acts = {entry["act"] for entry in context.log.entries() if entry["action"] == "would"}
    assert {"write 1 to cgroup.freeze", "make the control group"} <= acts
    assert {f"write {each.pid} to cgroup.procs" for each in other.living()} <= acts
    assert alone.goes_on()
    assert other.goes_on()
    assert not origin.is_frozen
    assert not own_group(context.workload.root).place.exists()


def early_of(small: SmallWorkload) -> dict[str, object]:
    return described(small, training_pattern=PATTERN)


@pytest.mark.whole
def test_the_early_freeze_moves_nobody_and_is_undone_if_the_run_is_refused(
    start: Start, small: SmallWorkload, origin: ControlGroup
) -> None:
    alone, other = start(FAMILY, origin), start(FAMILY)
    early = freeze_described(early_of(small))
    assert early
    assert origin.is_frozen
    assert not alone.runs()
    assert not other.runs()
    assert {other.group(each.pid) for each in other.living()} == {"/"}
    thaw_again(early)
    assert not origin.is_frozen
    assert alone.goes_on()
    assert other.goes_on()
    assert not early.path.exists()


@pytest.mark.whole
def test_the_run_takes_over_what_its_start_has_frozen(start: Start, small: SmallWorkload, origin: ControlGroup) -> None:
    case = start(FAMILY, origin)
    early = freeze_described(early_of(small))
    assert early
    give_up_ownership(early.path.parent)
    with case_of(small.block(training_pattern=PATTERN)) as context:
        freeze.fn(context)
        assert not (context.directory.base / EARLY).exists()
        thaw_again(early)
        assert not case.runs()
        assert ways(context, case) == {Way.IN_PLACE}
        end(context, case)
    assert not origin.is_frozen


@pytest.mark.whole
@pytest.mark.parametrize("way", [Way.IN_PLACE, Way.INCIDENT])
def test_a_bystander_that_is_named_after_it_was_frozen_leaves_the_group(
    start: Start, small: SmallWorkload, origin: ControlGroup, way: Way
) -> None:
    case = start(FAMILY, origin if way is Way.IN_PLACE else None)
    with case_of(small.block(training_pattern=PATTERN)) as context:
        freeze.fn(context)
        if way is Way.INCIDENT:
            groups, seen = Groups(context), context.adapters.host.snapshot()
            assert groups.move(seen[each.pid] for each in case.living())
            groups.freeze()
        assert not case.runs()
    with case_of(small.block(bystanders=[PATTERN])) as context:
        cordon.fn(context)
        made(freeze.fn(context))
        assert case.goes_on()
        end(context)
    assert case.goes_on()
    assert not origin.is_frozen


def frozen_by_a_start_that_died(small: SmallWorkload, origin: ControlGroup) -> EarlyFreeze:
    early = freeze_described(early_of(small))
    assert early
    assert origin.is_frozen
    give_up_ownership(early.path.parent)
    return early


def test_a_group_of_a_start_that_died_in_which_the_block_finds_strangers_now_is_not_taken_over(
    start: Start, small: SmallWorkload, origin: ControlGroup
) -> None:
    """The pattern was narrowed, and yet everybody in the group was ended as the workload."""
    case = start(FAMILY, origin)
    early = frozen_by_a_start_that_died(small, origin)
    with case_of(small.block()) as context:
        cordon.fn(context)
        frozen: Freeze = made(freeze.fn(context))
        assert frozen.processes == ()
        assert not origin.is_frozen
        assert {each.split()[3] for each in frozen.warnings} == {str(each.pid) for each in case.living()}
        assert set(read_early(early.path).frozen) == set(early.frozen)
        stop.fn(context)
        assert case.states() == {"T"}
    thaw_again(early)
    assert case.states() == {"T"}


def test_uncordon_thaws_the_group_that_a_start_that_died_has_frozen(
    start: Start, small: SmallWorkload, origin: ControlGroup
) -> None:
    case = start(FAMILY, origin)
    early = frozen_by_a_start_that_died(small, origin)
    list(let_go(small.block(training_pattern=PATTERN), LinuxHost(root=small.root)))
    assert not origin.is_frozen
    assert case.goes_on()
    assert not early.path.exists()


def test_what_somebody_else_has_frozen_stays_frozen(start: Start, small: SmallWorkload, origin: ControlGroup) -> None:
    case = start(FAMILY, origin)
    assert not origin.freeze()
    early = freeze_described(early_of(small))
    assert early
    thaw_again(early)
    assert origin.is_frozen
    assert not case.runs()


@pytest.mark.whole
def test_receipts_of_a_stop_name_each_that_the_kernel_ended(start: Start, context: RunContext) -> None:
    case = start(STUBBORN)
    freeze.fn(context)
    pids = {each.pid for each in case.living()}
    stopped: Stop = made(stop.fn(context))
    assert {each.identity.pid for each in stopped.processes if each.end is End.KILLED} == pids
