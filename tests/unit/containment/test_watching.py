"""What the watch does with whom it meets: on paper, what real processes show seldom."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from signal import SIGKILL, SIGSTOP, Signals

import pytest

from tasks.containment import supervisors
from tasks.containment import watch as steps
from tasks.containment.containment_check import check_containment
from tasks.containment.members import Membership
from tasks.containment.watch import Watching, watch
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment, End, Frozen, Returned, Source, Stop, Watch
from tasks.custody.incident.verdict import Word, judge, ways_in
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tests.support.paper_clock import PaperClock
from tests.support.paper_host import PaperHost, PaperSystemd, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

KEEPER = process(1, ("/usr/bin/keeper", "--serve"))

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(watch_seconds=10, stop_supervisors=True)) as context:
        context.adapters.host = PaperHost(KEEPER, root=small.root)
        yield context


def trains(run: RunContext, number: int, parent: int = KEEPER.pid) -> Identity:
    """A training that the keeper starts."""
    assert isinstance(run.adapters.host, PaperHost)
    made = process(number, TRAINING, parent, cwd=str(run.directory.root))
    run.adapters.host.processes[made.pid] = made
    return made.identity


def watching(run: RunContext) -> Watching:
    """A watch over a workload that the keeper had started."""
    source = Source(" ".join(run.adapters.host.snapshot()[KEEPER.pid].command), KEEPER.identity)
    at = run.incident.opened_at
    run.state.frozen.write([Frozen(Identity(1, 1), "training", "", 0, at, at, lineage=(source,))])
    return Watching(run)


def returned(who: Identity, end: End) -> Returned:
    return Returned(who, "training", "train", "nobody", end)


@pytest.mark.parametrize(
    ("lives", "end", "expected"),
    [
        (False, End.SURVIVED, End.KILLED),
        (True, End.SURVIVED, End.SURVIVED),
        (False, End.HELD, End.HELD),
        (True, End.HELD, End.HELD),
    ],
)
def test_what_a_run_that_died_was_about_to_kill_is_settled_by_whether_it_lives(
    run: RunContext,
    lives: bool,  # noqa: FBT001
    end: End,
    expected: End,
) -> None:
    who = trains(run, 2) if lives else Identity(KEEPER.pid + 1, 2)
    run.state.returned.write([returned(who, end)])
    assert [each.end for each in Watching(run).found.values()] == [expected]


def test_who_comes_back_is_frozen_written_down_and_killed(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    host = run.adapters.host
    assert isinstance(host, PaperHost)
    made, who, known = watching(run), trains(run, 2), list[Returned]()
    obey = host.signal

    def seen(identity: Identity, number: Signals) -> None:
        if number is SIGKILL and identity == who:
            known.extend(run.state.returned.read())
        obey(identity, number)

    monkeypatch.setattr(host, "signal", seen)
    assert made.look()
    assert [(each.identity, each.end) for each in known] == [(who, End.SURVIVED)]
    assert [number for pid, number in host.sent if pid == who.pid] == [SIGSTOP, SIGKILL]
    assert made.found[who].end is End.KILLED


@pytest.mark.parametrize(
    ("keeper", "ended"),
    [
        (KEEPER, True),
        (replace(KEEPER, executable="/usr/bin/tmux"), False),
        (replace(KEEPER, command=("-bash",), executable="/bin/bash"), False),
        (replace(KEEPER, executable="/usr/sbin/sshd"), False),
    ],
)
def test_what_brings_it_back_is_ended_only_if_nobodys_login_hangs_on_it(
    run: RunContext,
    keeper: Process,
    ended: bool,  # noqa: FBT001
) -> None:
    assert isinstance(run.adapters.host, PaperHost)
    run.adapters.host.processes[keeper.pid] = keeper
    made = watching(run)
    trains(run, 2)
    made.look()
    assert ((keeper.pid, SIGKILL) in run.adapters.host.sent) is ended
    assert bool(made.stopped) is ended


def test_what_keeps_others_too_is_not_ended_and_what_it_brings_twice_stays_frozen(run: RunContext) -> None:
    assert isinstance(run.adapters.host, PaperHost)
    run.adapters.host.processes[KEEPER.pid + 7] = process(8, ("/bin/other",), KEEPER.pid)
    made = watching(run)
    first = trains(run, 2)
    assert made.look()
    second = trains(run, 3)
    assert made.look()
    assert not made.look()
    assert [made.found[who].end for who in (first, second)] == [End.KILLED, End.HELD]
    assert [number for pid, number in run.adapters.host.sent if pid == second.pid] == [SIGSTOP]
    assert [source.identity for source in made.standing] == [KEEPER.identity]
    assert {pid for pid, _ in run.adapters.host.sent} == {first.pid, second.pid}


def test_what_a_supervisor_that_cannot_be_stopped_brings_stays_frozen_and_the_verdict_names_it(run: RunContext) -> None:
    """It was killed, the supervisor waited for longer than the watch, and the run ended Verified."""
    host = run.adapters.host
    assert isinstance(host, PaperHost)
    host.systemd = PaperSystemd(t={"ActiveState": "active"})
    host.systemd.failing.add("stop")
    seen = watching(run)
    seen.earlier.add(Source("t.service"))
    who = process(2, TRAINING, 1, cwd=str(run.directory.root), cgroup="0::/system.slice/t.service")
    host.processes[who.pid] = who
    assert seen.look()
    assert seen.found[who.identity].end is End.HELD
    told = seen.result()
    assert (told.standing, told.stopped) == (("systemd unit t.service",), ())
    verdict = judge("IR-1", Containment(NOW, (), cordoned=True, reason=""), [], [], ways_in=ways_in(None, None, told))
    assert verdict.word is Word.NOT_CONTAINED
    assert "systemd unit t.service brought the workload back and still stands: stop it, then run again" in (
        verdict.missing
    )


def test_who_brought_it_back_once_is_named_as_who_may_again_and_is_known_to_the_next_run(run: RunContext) -> None:
    run.workload.stop_supervisors = False
    first = watching(run)
    trains(run, 2)
    assert first.look()
    ((keeper, _),) = supervisors.parents_left(Membership(run), run.adapters.host.snapshot())
    assert keeper.identity == KEEPER.identity
    again, who = Watching(run), trains(run, 3)
    assert again.look()
    assert again.found[who].end is End.HELD
    assert again.result().standing == (str(next(iter(again.standing))),)
    run.state.returned.write(list(again.found.values()))
    assert not [*supervisors.parents_left(Membership(run), run.adapters.host.snapshot())], "it is named as held"
    assert isinstance(run.adapters.host, PaperHost)
    del run.adapters.host.processes[who.pid]
    ((keeper, _),) = supervisors.parents_left(Membership(run), run.adapters.host.snapshot())
    assert keeper.identity == KEEPER.identity


def test_an_ancestor_of_ours_is_never_what_is_ended(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(run.adapters.host, PaperHost)
    monkeypatch.setattr(Membership, "protected_pids", lambda *_: {KEEPER.pid})
    made = watching(run)
    trains(run, 2)
    made.look()
    assert KEEPER.pid not in {pid for pid, _ in run.adapters.host.sent}


def test_it_watches_as_long_as_the_block_says(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PaperClock()
    monkeypatch.setattr(steps, "time", clock)
    began = clock.now
    watching(run).go_on(datetime.now(UTC))
    assert began + 10 <= clock.now < began + 12


def test_the_seconds_count_from_the_stop_whichever_run_did_it(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that carried the incident on, its stop cached, watched for the whole time again."""
    clock = PaperClock()
    monkeypatch.setattr(steps, "time", clock)
    for passed, left in ((4, 6), (3600, 0)):
        began = clock.now
        stopped = Stop(datetime.now(UTC) - timedelta(seconds=passed), ())
        assert made(watch.fn(run, stopped)).is_complete
        assert began + left - 0.5 <= clock.now < began + left + 1


def test_each_return_makes_it_begin_again_a_few_times(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PaperClock()
    monkeypatch.setattr(steps, "time", clock)
    began = clock.now
    made, looks = watching(run), iter(range(1000))
    monkeypatch.setattr(made, "look", lambda: next(looks) == 50)
    made.go_on(datetime.now(UTC))
    assert began + 14 <= clock.now < began + 17
    monkeypatch.setattr(made, "look", lambda: True)
    began = clock.now
    made.go_on(datetime.now(UTC))
    assert clock.now < began + 25


def test_a_second_try_forgets_no_source_that_stands(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no journal; without it the run would end green while the keeper lives."""
    monkeypatch.setattr(run.workload, "stop_supervisors", False)
    monkeypatch.setattr(steps, "time", PaperClock())
    watching(run)
    comes = iter(range(10, 13))

    def look(each: Watching) -> bool:
        if (number := next(comes, 0)) == 12:
            raise OSError("for a moment")
        if number:
            trains(run, number)
        return act(each)

    act = Watching.look
    monkeypatch.setattr(Watching, "look", look)
    with pytest.raises(OSError, match="for a moment"):
        watch.fn(run)
    made_of_both: Watch = made(watch.fn(run))
    assert [each.end for each in made_of_both.returned] == [End.KILLED, End.HELD]
    assert len(made_of_both.standing) == 1
    assert run.first_try.watch is None


def test_who_brought_it_back_once_and_lives_contradicts_containment(run: RunContext) -> None:
    """A loop that slept was excused by its `sleep`, and the run ended Verified while it started the training again."""
    run.workload.stop_supervisors = False
    seen = watching(run)
    before = check_containment(run)
    assert (before.alive, [each.identity for each in before.unknown]) == ((), [KEEPER.identity])
    trains(run, 2)
    assert seen.look()
    found = check_containment(run)
    (told,) = found.alive
    assert told.startswith(f"{KEEPER.pid}: /usr/bin/keeper --serve (it has started the workload again 再起動の元: ")
    assert "stop it first" in told
    assert found.unknown == ()
    assert isinstance(run.adapters.host, PaperHost)
    del run.adapters.host.processes[KEEPER.pid]
    assert check_containment(run).alive == ()


@pytest.mark.parametrize(
    ("start", "contradicts"), [(900, True), (100, False)], ids=["a newcomer", "the workload that the guard met first"]
)
def test_who_started_what_the_guard_has_caught_contradicts_containment(
    run: RunContext, start: int, *, contradicts: bool
) -> None:
    run.workload.stop_supervisors = False
    watching(run)
    run.state.since.write(500)
    row = {
        "at": run.incident.opened_at.isoformat(),
        "identity": {"pid": KEEPER.pid + 7, "start": start},
        "source": f"process 7 (timeout 9 train), started by process {KEEPER.pid} (/usr/bin/keeper --serve)",
    }
    run.cordon_files.caught.write_text(f"{json.dumps(row)}\n")
    assert bool(check_containment(run).alive) is contradicts


def test_what_the_frozen_forked_as_they_were_frozen_was_started_by_nobody_else(run: RunContext) -> None:
    """The launcher of a training whose workers came at that moment was NotContained, and no answer excused it."""
    run.workload.stop_supervisors = False
    watching(run)
    run.state.since.write(500)
    line = f"process 1 (train), started by process {KEEPER.pid} (/usr/bin/keeper --serve)"
    row = {"at": run.incident.opened_at.isoformat(), "identity": {"pid": 7, "start": 900}, "source": line}
    run.cordon_files.caught.write_text(f"{json.dumps(row)}\n")
    seen = check_containment(run)
    assert (seen.alive, [each.identity for each in seen.unknown]) == ((), [KEEPER.identity])


def test_the_parent_behind_a_wrapper_is_who_may_start_it_again(run: RunContext) -> None:
    run.workload.stop_supervisors = False
    at, keeper = run.incident.opened_at, Source("/usr/bin/keeper --serve", KEEPER.identity)
    timeout = Source("timeout 9 train", Identity(1, 1))
    run.state.frozen.write(
        [
            Frozen(Identity(1, 1), "training", "timeout 9 train", 0, at, at, lineage=(keeper,)),
            Frozen(Identity(2, 2), "training", "train", 0, at, at, lineage=(timeout, keeper)),
        ]
    )
    ((found, why),) = supervisors.parents_left(Membership(run), run.adapters.host.snapshot())
    assert (found.identity, "the parent of the training and" in why) == (KEEPER.identity, True)
