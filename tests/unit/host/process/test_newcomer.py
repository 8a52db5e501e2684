"""Whom a guard leaves to a run; what a stop does with a process that was started meanwhile."""

from dataclasses import replace

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.process.known_programs import tells
from tasks.host.process.newcomer import Newcomer, classify_newcomer, in_hand, living_source
from tasks.host.process.process import Process
from tasks.host.process.source import may_be_ended, may_restart

TAKEN_IN, TOLD, LEFT_ALONE = Newcomer.TAKEN_IN, Newcomer.TOLD, Newcomer.LEFT_ALONE
SERVICE, LOGIN = "0::/system.slice/training.service", "0::/user.slice/user-1000.slice/session-2.scope"
NEW = Identity(50, 500)
SUPERVISED = "started by process 30 (supervisord) of user 1000 in /srv, which lives 起動元は動作中: end it with kill 30"


def process(pid: int, parent: int, program: str) -> Process:
    return Process(Identity(pid, pid * 10), parent, "S", (program,), executable=f"/usr/bin/{program}")


def table(*, parent: int, cgroup: str = LOGIN, container: str = "", state: str = "S") -> dict[int, Process]:
    """Init, a user's systemd, a supervisor, a training that is stopped, and the newcomer."""
    newcomer = replace(process(50, parent, "python3"), cgroup=cgroup, container=container, state=state)
    others = [(1, 0, "systemd"), (20, 1, "systemd"), (30, 1, "supervisord"), (40, 1, "python3")]
    return {one.pid: one for one in (*(process(*each) for each in others), newcomer)}


KIN = {40: Identity(40, 400)}
ITSELF = {50: NEW}
ANOTHER_OF_ITS_PID = {50: Identity(50, 499)}


@pytest.mark.parametrize(
    ("what", "snapshot", "member", "kin", "protected_pids", "becomes"),
    [
        ("a helper that the training has started", table(parent=40), False, KIN | ITSELF, (), TAKEN_IN),
        ("a worker that the training has started", table(parent=40), True, KIN | ITSELF, (), TAKEN_IN),
        ("a worker whose parent was not met as kin in time", table(parent=40), True, KIN, (), TAKEN_IN),
        ("a worker that init has adopted", table(parent=1), True, KIN, (), TAKEN_IN),
        ("a worker that a user's systemd has adopted", table(parent=20), True, KIN, (), TAKEN_IN),
        ("a worker whose parent is gone", table(parent=45), True, KIN, (), TAKEN_IN),
        ("a helper that has moved into a unit", table(parent=1, cgroup=SERVICE), False, KIN | ITSELF, (), TAKEN_IN),
        ("kin that a supervisor has adopted", table(parent=30), True, KIN | ITSELF, (), TAKEN_IN),
        ("what a supervisor has started again", table(parent=30), True, KIN, (), TOLD),
        ("what systemd has started again", table(parent=1, cgroup=SERVICE), True, KIN, (), TOLD),
        ("what a user's systemd has started again", table(parent=20, cgroup=SERVICE), True, KIN, (), TOLD),
        ("a member that has the pid of kin", table(parent=30), True, KIN | ANOTHER_OF_ITS_PID, (), TOLD),
        ("what somebody else has started", table(parent=30), False, KIN, (), LEFT_ALONE),
        ("a stranger that has the pid of kin", table(parent=1), False, KIN | ANOTHER_OF_ITS_PID, (), LEFT_ALONE),
        ("a stranger below init", table(parent=1), False, KIN, (), LEFT_ALONE),
        ("a protected one that is kin", table(parent=40), True, KIN | ITSELF, (50,), LEFT_ALONE),
        ("a protected one that a supervisor has started", table(parent=30), True, KIN, (50,), LEFT_ALONE),
        ("kin in a container", table(parent=40, container="0123"), False, KIN | ITSELF, (), LEFT_ALONE),
        ("a member in a container", table(parent=30, container="0123"), True, KIN, (), LEFT_ALONE),
        ("kin that has ended", table(parent=40, state="Z"), False, KIN | ITSELF, (), LEFT_ALONE),
        ("a member that has ended", table(parent=30, state="Z"), True, KIN, (), LEFT_ALONE),
    ],
)
def test_a_newcomer_is_taken_in_told_or_left_alone(  # noqa: PLR0913, PLR0917  the columns of the table
    what: str,
    snapshot: dict[int, Process],
    member: bool,  # noqa: FBT001
    kin: dict[int, Identity],
    protected_pids: tuple[int, ...],
    becomes: Newcomer,
) -> None:
    members = [NEW] if member else []
    assert classify_newcomer(snapshot, NEW, members, kin, protected_pids) is becomes, what


@pytest.mark.parametrize(
    ("parent", "named"),
    [
        (
            30,
            SUPERVISED,
        ),
        (
            41,
            SUPERVISED,
        ),
        (45, ""),
        (1, ""),
    ],
    ids=["its parent lives", "its parent has ended too", "nobody is known", "init has adopted it"],
)
def test_what_has_started_one_that_has_ended_is_named_if_it_lives(parent: int, named: str) -> None:
    snapshot = table(parent=1)
    del snapshot[50]
    snapshot[30] = replace(snapshot[30], user=1000, cwd="/srv")
    snapshot[41] = process(41, 1, "another")  # has the pid of what ended
    ended = {50: process(50, parent, "python3"), 41: replace(process(41, 30, "sh"), identity=Identity(41, 5))}
    assert living_source(snapshot, ended, 50) == named


@pytest.mark.parametrize("program", ["containerd-shim-runc-v2", "containerd-shim", "conmon"])
def test_what_an_engine_keeps_beside_a_container_is_never_to_be_killed(program: str) -> None:
    """Its end would leave the container's processes to run, where the engine knows nothing of them."""
    ended = {50: process(50, 30, "python3")}
    shim, inside = process(30, 1, program), replace(process(60, 30, "sleep"), container="0123456789abcdef" * 4)
    line = living_source({30: shim, 60: inside}, ended, 50)
    assert line.endswith("stop its container, as by docker stop 0123456789ab")
    assert not may_be_ended(shim)
    assert not may_restart({30: shim}, shim)
    assert tells(shim.executable)
    strange = replace(shim, strange=True)  # anybody may give a file of his own its name
    assert living_source({30: strange, 60: inside}, ended, 50).endswith("end it with kill 30")
    assert may_be_ended(strange)


def at_a_look(**states: str) -> dict[int, Process]:
    """A training, its copy that is about to become a helper, a child that has its own program, and a stranger."""
    seen = {"training": (60, 1), "copy": (61, 60), "child": (62, 60), "stranger": (63, 1)}
    made = {name: process(pid, parent, "python3") for name, (pid, parent) in seen.items()}
    return {
        one.pid: replace(one, state=states.get(name, "S"), forked=name in {"copy", "stranger"})
        for name, one in made.items()
    }


FROZEN = [Identity(60, 600), Identity(64, 640)]


@pytest.mark.parametrize(
    ("what", "snapshot", "frozen", "living", "dead"),
    [
        ("it was thawed to end", at_a_look(), FROZEN, {60, 61}, set()),
        ("it stands", at_a_look(training="T"), FROZEN, {60, 61}, {60}),
        ("it stands for a tracer", at_a_look(training="t"), FROZEN, {60, 61}, {60}),
        ("its copy stands too", at_a_look(training="T", copy="T"), FROZEN, {60, 61}, {60}),
        ("its copy was frozen by the run", at_a_look(copy="T"), [*FROZEN, Identity(61, 610)], {60, 61}, {61}),
        ("it has ended, and its copy not", at_a_look(training="Z"), FROZEN, {60}, set()),
        ("another has its pid", at_a_look(training="T"), [Identity(60, 599)], set(), set()),
        ("nobody was frozen", at_a_look(training="T"), [], set(), set()),
    ],
)
def test_whom_a_run_has_in_hand_as_long_as_it_lives_and_when_it_is_dead(
    what: str,
    snapshot: dict[int, Process],
    frozen: list[Identity],
    living: set[int],
    dead: set[int],
) -> None:
    assert in_hand(snapshot, frozen, run_lives=lambda: True) == living, what
    assert in_hand(snapshot, frozen, run_lives=lambda: False) == dead, what


def test_of_a_source_that_has_ended_there_is_no_way_to_end_it() -> None:
    ended = {50: process(50, 30, "python3")}
    assert living_source({30: replace(process(30, 1, "loop"), state="Z")}, ended, 50) == ""
    assert "kill 30" in living_source({30: process(30, 1, "loop")}, ended, 50)
