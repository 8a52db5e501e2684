"""One stop, step by step, on paper: who is sent what in which order, and who is met in the middle of it."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

import pytest

from tasks.containment import stop as steps
from tasks.containment.stop import Stopping, StopTarget
from tasks.containment.units import ASKED
from tasks.custody.containment.identity import Identity, Way
from tasks.custody.containment.receipt import End, Frozen
from tasks.host.descent import DescendantTracker
from tasks.host.process.process import Masks, Process
from tasks.runtime.context import Policy, RunContext
from tasks.runtime.frozen import load_announced
from tests.support.paper_host import PaperGroup, PaperHost, PaperSystemd, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
UNIT = "api.service"
RUNS = {"ActiveState": "active", "SubState": "running"}
CGROUP = f"0::/system.slice/{UNIT}\n"


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(units=[UNIT], grace_seconds=0.1)) as context:
        context.adapters.host = PaperHost(root=small.root)
        yield context


def host_of(run: RunContext) -> PaperHost:
    assert isinstance(run.adapters.host, PaperHost)
    return run.adapters.host


def add(run: RunContext, number: int, parent: int = 1, command: tuple[str, ...] = TRAINING, **about: Any) -> Process:
    made = process(number, command, parent, **{"cwd": str(run.directory.root), "state": "T", **about})
    host_of(run).processes[made.pid] = made
    return made


def stopping(run: RunContext, *frozen: Process) -> Stopping:
    at = run.incident.opened_at
    rows = [Frozen(each.identity, "training", "train", 0, at, at) for each in frozen]
    return Stopping(run, rows, DescendantTracker(run.adapters.host, [each.identity for each in rows]))


def sent(run: RunContext, who: Process) -> list[Signals]:
    return [number for pid, number in host_of(run).sent if pid == who.pid]


def before(run: RunContext, monkeypatch: pytest.MonkeyPatch, act: Callable[[Identity, Signals], object]) -> None:
    """Call this before each signal to one that is there."""
    obey = host_of(run).signal

    def signal(identity: Identity, number: Signals) -> None:
        if run.adapters.host.get_process(identity):
            act(identity, number)
        obey(identity, number)

    monkeypatch.setattr(run.adapters.host, "signal", signal)


def test_asked_thawed_and_killed_each_announced_before(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    one, deaf = add(run, 1), add(run, 2, masks=Masks(ignored=1 << SIGINT - 1))
    announced = list[tuple[str, ...]]()
    before(
        run,
        monkeypatch,
        lambda who, _: announced.append(tuple(name for name, _ in load_announced(run.state)[who].signals)),
    )
    host_of(run).processes[deaf.pid] = deaf
    made = stopping(run, one, deaf)
    made.hold()
    made.ask()
    assert sent(run, one) == [SIGINT, SIGCONT]
    assert sent(run, deaf) == [SIGTERM]  # this one ends by it, on paper
    assert announced == [("SIGINT", "SIGCONT"), ("SIGTERM", "SIGCONT"), ("SIGINT", "SIGCONT")]
    made.kill()
    assert sent(run, one) == [SIGINT, SIGCONT, SIGKILL]
    assert made.remaining == []
    assert announced[3:] == [("SIGINT", "SIGCONT", "SIGKILL")]


DEAF = Masks(ignored=1 << SIGINT - 1 | 1 << SIGTERM - 1)


@pytest.mark.parametrize(
    "masks", [Masks(), Masks(blocked=2**64 - 1), Masks(ignored=1 << SIGINT - 1, blocked=2**64 - 1)]
)
@pytest.mark.parametrize("shell", ["/bin/sh", "/usr/bin/bash"])
def test_a_shell_is_asked_by_what_it_does_not_take_for_its_childs(run: RunContext, shell: str, masks: Masks) -> None:
    """A loop went on after SIGINT, when its child had ended well; one frozen while it blocked all was sent nothing."""
    loop = add(run, 1, command=(shell, "-c", f"while :; do {' '.join(TRAINING)}; done"), executable=shell, masks=masks)
    made = stopping(run, loop, add(run, 2, loop.pid))
    made.ask()
    assert sent(run, loop) == [SIGTERM]


@pytest.mark.slow
@pytest.mark.parametrize("is_shell", [True, False])
@pytest.mark.parametrize("has_helper", [True, False])
def test_a_shell_that_only_waits_for_what_it_started_again_does_not_use_up_the_grace(
    run: RunContext, *, is_shell: bool, has_helper: bool
) -> None:
    run.workload.grace_seconds = 0.4
    about: dict[str, Any] = {"command": ("/bin/sh", "run"), "executable": "/bin/sh"} if is_shell else {}
    above = add(run, 1, masks=DEAF, **about)
    loop = add(run, 2, above.pid, masks=DEAF, **about)
    made = stopping(run, above, loop)
    made.hold()
    made.ask()
    again = add(run, 3, loop.pid, state="S")
    if has_helper:
        add(run, 4, loop.pid, ("/bin/sync",), state="S")
    began = time.monotonic()
    made.wait()
    assert (time.monotonic() - began < 0.4) == (is_shell and not has_helper)
    made.kill()
    assert sent(run, again) == [SIGSTOP, SIGKILL]
    assert "waits for what it started" in made.targets[loop.identity].receipt().reason
    assert len(made.warnings) == (0 if is_shell and not has_helper else 2)


@pytest.mark.parametrize("policy", ["graceful", "kill"])
def test_a_stop_that_is_cancelled_before_it_has_asked_leaves_all_as_it_stands(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    run.run, hold = replace(run.run, policy=policy), Stopping.hold
    host_of(run).systemd = systemd = PaperSystemd(api=RUNS)
    one, other = add(run, 1, cgroup=CGROUP), add(run, 2)
    at = run.incident.opened_at
    run.state.frozen.write([Frozen(each.identity, "api", "", 0, at, at) for each in (one, other)])

    def cancelled_hold(made: Stopping) -> None:
        hold(made)
        run.cancelled.order(SIGTERM)

    monkeypatch.setattr(Stopping, "hold", cancelled_hold)
    stopped = made(steps.stop.fn(run))
    assert {receipt.end for receipt in stopped.processes} == {End.SURVIVED}
    assert (sent(run, one), sent(run, other)) == ([], [])
    assert ("stop", UNIT) not in systemd.told


def test_one_that_the_guard_has_killed_has_not_ended_by_itself(run: RunContext) -> None:
    gone, killed = process(1), process(2)
    at = run.incident.opened_at.isoformat()
    rows: list[dict[str, Any]] = [
        {"at": at, "identity": {"pid": each.pid, "start": each.identity.start}} for each in (gone, killed, killed)
    ]
    rows[-1]["killed"] = True
    run.cordon_files.caught.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = stopping(run, gone, killed)
    made.note_guard()
    by_itself, by_guard = (made.targets[each.identity].receipt() for each in (gone, killed))
    assert (by_itself.end, by_itself.signals, by_itself.reason) == (End.GONE, (), "")
    assert (by_guard.end, by_guard.signals) == (End.KILLED, (("SIGKILL", run.incident.opened_at),))
    assert "by the guard" in by_guard.reason


def test_the_guards_kill_stands_in_the_receipt_although_another_was_signalled(run: RunContext) -> None:
    """The signals are announced with a receipt of everybody, those who are gone as well."""
    killed, living = process(2), add(run, 3)
    at = run.incident.opened_at
    row = {"at": at.isoformat(), "identity": {"pid": killed.pid, "start": killed.identity.start}, "killed": True}
    run.cordon_files.caught.write_text(f"{json.dumps(row)}\n")
    run.state.frozen.write([Frozen(each.identity, "api", "", 0, at, at) for each in (killed, living)])
    receipts = {each.identity: each for each in made(steps.stop.fn(run)).processes}
    assert "by the guard" in receipts[killed.identity].reason
    told = {each["object"] for each in run.log.entries() if each["action"] == "stopped"}
    assert told == {str(killed.pid), str(living.pid)}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["graceful", "kill"])
def test_the_log_says_how_long_the_grace_let_one_run(run: RunContext, policy: Policy) -> None:
    run.run, run.workload.grace_seconds = replace(run.run, policy=policy), 0.3
    deaf, at = add(run, 1, masks=DEAF), run.incident.opened_at
    run.state.frozen.write([Frozen(deaf.identity, "training", "train", 0, at, at)])
    steps.stop.fn(run)
    (entry,) = (each for each in run.log.entries() if each["action"] == "stopped")
    assert ("ran_s" in entry) == ("ran_until" in entry) == (policy == "graceful")
    assert policy == "kill" or 0.3 <= entry["ran_s"] < 5


def seconds(number: float) -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=number)


@pytest.mark.parametrize(
    ("signals", "newcomer", "ran"),
    [
        ([("SIGKILL", 5)], False, None),
        ([("SIGTERM", 1), ("SIGCONT", 2), ("SIGKILL", 32)], False, (30.5, 32.5)),
        ([("SIGCONT", 2), ("SIGSTOP", 4), ("SIGKILL", 32)], False, (2.0, 4.0)),
        ([("SIGCONT", 2), ("SIGSTOP", 4), ("SIGCONT", 30)], False, (4.5, 32.5)),
        ([("SIGCONT", 2), ("SIGCONT", 3)], False, (30.5, 32.5)),
        ([], True, (32.5, 32.5)),
        ([("SIGSTOP", 0.25), ("SIGKILL", 32)], True, (0.25, 0.25)),
    ],
)
def test_it_is_known_how_long_one_ran_during_the_stop(
    signals: list[tuple[str, float]], ran: tuple[float, float] | None, *, newcomer: bool
) -> None:
    target = StopTarget(Identity(7, 7), "training", "train", newcomer=newcomer, alive=False, seen_at=seconds(0))
    target.sent, target.gone_at = [(name, seconds(at)) for name, at in signals], seconds(32.5)
    assert target.ran == ({"ran_s": ran[0], "ran_until": seconds(ran[1]).isoformat()} if ran else {})


def test_one_that_ends_between_two_looks_is_no_trouble(run: RunContext) -> None:
    one, two = add(run, 1), add(run, 2)
    made = stopping(run, one, two)
    del host_of(run).processes[one.pid]
    made.hold()
    made.kill()
    assert made.remaining == []
    assert sent(run, two) == [SIGKILL]


def test_a_pid_that_another_has_got_is_not_the_one_that_was_frozen(run: RunContext) -> None:
    one = add(run, 1)
    made = stopping(run, one)
    other = replace(one, identity=replace(one.identity, start=99), command=("/bin/other",), cwd="/")
    host_of(run).processes[one.pid] = other
    made.hold()
    made.kill()
    assert sent(run, other) == []
    assert made.remaining == []


def test_a_newcomer_that_is_met_before_anybody_is_asked_is_ended_with_the_others(run: RunContext) -> None:
    one = add(run, 1)
    made = stopping(run, one)
    new = add(run, 2, one.pid, state="S")
    made.hold()
    assert made.targets[new.identity].newcomer
    assert sent(run, new) == [SIGSTOP]
    made.kill()
    assert sent(run, new) == [SIGSTOP, SIGKILL]


def test_a_newcomer_that_is_born_while_others_are_killed_is_ended_too(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, born = add(run, 1), list[Process]()

    def give_birth(*_: object) -> None:
        if not born:
            born.append(add(run, 2, one.pid, state="S"))

    before(run, monkeypatch, give_birth)
    made = stopping(run, one)
    made.kill()
    (new,) = born
    assert SIGKILL in sent(run, new)
    assert made.remaining == []


def test_a_copy_of_one_that_starts_a_helper_is_not_frozen(run: RunContext) -> None:
    one = add(run, 1)
    made = stopping(run, one)
    copy = add(run, 2, one.pid, state="S", forked=True)
    made.hold()
    assert sent(run, copy) == []
    assert not made.targets[copy.identity].held


def test_what_systemd_is_asked_to_stop_is_sent_no_signal_but_its_thaw(run: RunContext) -> None:
    host_of(run).systemd = PaperSystemd(api=RUNS)
    one, other = add(run, 1, cgroup=CGROUP), add(run, 2)
    made = stopping(run, one, other)
    made.hold()
    made.ask_systemd()
    assert made.units.stopping == {UNIT}
    assert [name for name, _ in made.targets[one.identity].sent] == [ASKED]
    made.ask()
    assert sent(run, one) == [SIGCONT]
    assert sent(run, other) == [SIGINT, SIGCONT]


def test_the_guard_is_told_of_a_units_own_commands_for_its_end_and_of_nobody_else(run: RunContext) -> None:
    host_of(run).systemd = PaperSystemd(api=RUNS)
    one = add(run, 1, cgroup=CGROUP)
    made = stopping(run, one)
    made.hold()
    made.ask_systemd()
    assert not run.state.stopping_units.path.exists()
    helper, other = add(run, 2, one.pid, state="S", cgroup=CGROUP), add(run, 3, one.pid, state="S")
    made._take_in_newcomers()
    assert run.state.stopping_units.read() == [helper.identity]
    assert (sent(run, helper), sent(run, other)) == ([], [SIGSTOP])
    del host_of(run).processes[helper.pid]
    made._take_in_newcomers()
    assert run.state.stopping_units.read() == []


def test_under_policy_kill_a_units_main_process_stands_until_systemd_has_thawed_it(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.run = replace(run.run, policy="kill")
    main, worker = add(run, 1, cgroup=CGROUP), add(run, 2, cgroup=CGROUP)
    host_of(run).systemd = systemd = PaperSystemd(api={**RUNS, "MainPID": str(main.pid)})
    order = list[tuple[str, int] | str]()
    before(run, monkeypatch, lambda who, number: order.append((number.name, who.pid)))
    tell = systemd.tell

    def note(verb: str, *words: str) -> str:
        order.append(verb)
        return tell(verb, *words)

    monkeypatch.setattr(systemd, "tell", note)
    made = stopping(run, main, worker)
    made.kill()
    assert order == [("SIGSTOP", main.pid), ("SIGKILL", worker.pid), "thaw", ("SIGKILL", main.pid)]


def test_whom_a_guard_stops_once_more_goes_on(run: RunContext) -> None:
    one = add(run, 1)
    made = stopping(run, one)
    made.ask()
    host_of(run).processes[one.pid] = one
    made._thaw_again()
    assert sent(run, one) == [SIGINT, SIGCONT, SIGCONT]


def test_a_run_that_is_cancelled_leaves_nobody_running(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    one = add(run, 1)
    made = stopping(run, one)
    made.ask()
    run.cancelled.order(SIGTERM)
    made.kill()
    thaws = list[str]()
    monkeypatch.setattr(made.groups, "freeze", lambda: thaws.append("freeze"))
    monkeypatch.setattr(made.groups, "thaw", lambda: thaws.append("thaw"))
    made.freeze_again()
    assert sent(run, one) == [SIGINT, SIGCONT, SIGSTOP]
    assert thaws == ["freeze", "thaw", "freeze"]


def test_who_survives_is_announced_to_the_next_run_and_nobody_else(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_KILL_ROUNDS", 1)
    one, immortal = add(run, 1), add(run, 2)
    at = run.incident.opened_at
    rows = [Frozen(each.identity, "training", "train", 0, at, at) for each in (one, immortal)]
    run.state.frozen.write(rows)
    before(run, monkeypatch, lambda who, _: deny() if who == immortal.identity else None)
    steps.stop.fn(run)
    assert set(load_announced(run.state)) == {immortal.identity}


def deny() -> None:
    raise PermissionError


def test_one_that_a_group_holds_is_ended_by_the_kernel_where_a_signal_is_denied(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = add(run, 1), add(run, 2)
    made = stopping(run, one, other)
    monkeypatch.setattr(made.groups, "way", lambda each: Way.INCIDENT if each.pid == one.pid else Way.SIGNALS)
    monkeypatch.setattr(made.groups, "kill", lambda: host_of(run).processes.pop(one.pid, None))
    before(run, monkeypatch, lambda who, _: deny() if who == one.identity else None)
    host_of(run).processes[other.pid] = replace(other, identity=replace(other.identity, start=99))
    made.kill()
    receipts = {who: target.receipt() for who, target in made.targets.items()}
    assert (receipts[one.identity].end, receipts[one.identity].way) == (End.KILLED, Way.INCIDENT)
    assert (receipts[other.identity].end, receipts[other.identity].way) == (End.GONE, Way.SIGNALS)


def test_who_is_alone_in_a_group_is_held_there_and_the_others_by_the_incidents(run: RunContext) -> None:
    host_of(run).groups = groups = dict[str, PaperGroup]()
    alone, beside = add(run, 1, cgroup="0::/of.its/own\n"), add(run, 2, cgroup="0::/user.slice\n")
    stranger = process(3, ("/bin/other",), cgroup="0::/user.slice\n")
    host_of(run).processes[stranger.pid] = stranger
    made = stopping(run, alone, beside)
    made.hold()
    assert {target.identity: target.way for target in made.targets.values()} == {
        alone.identity: Way.IN_PLACE,
        beside.identity: Way.INCIDENT,
    }
    assert {path for path, group in groups.items() if group.is_frozen} == {"/of.its/own", made.groups.own}


@pytest.mark.slow
@pytest.mark.parametrize("seam", ["wait", "kill", "note_guard"])
def test_a_second_try_asks_nobody_again_and_gives_no_second_grace(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, seam: str
) -> None:
    one, deaf = add(run, 1), add(run, 2, masks=Masks(ignored=1 << SIGINT - 1 | 1 << SIGTERM - 1))
    at = run.incident.opened_at
    run.state.frozen.write([Frozen(each.identity, "training", "train", 0, at, at) for each in (one, deaf)])
    act, calls = getattr(Stopping, seam), list[int]()

    def failing(self: Stopping) -> None:
        act(self)
        calls.append(0)
        if len(calls) == 1:
            raise OSError("for a moment")

    monkeypatch.setattr(Stopping, seam, failing)
    with pytest.raises(OSError, match="for a moment"):
        steps.stop.fn(run)
    until, grace = run.first_try.grace_until, list[float | None]()
    again = Stopping.wait

    def noted(self: Stopping) -> None:
        again(self)
        grace.append(run.first_try.grace_until)

    monkeypatch.setattr(Stopping, "wait", noted)
    stopped = made(steps.stop.fn(run))
    assert stopped.is_complete
    assert (grace, len(calls)) == ([until], 2)
    for who in (one, deaf):
        gentle = [number for number in sent(run, who) if number in {SIGINT, SIGTERM}]
        assert len(gentle) <= 1
    assert {receipt.identity for receipt in stopped.processes} == {one.identity, deaf.identity}
    assert run.adapters.host.snapshot() == {}
