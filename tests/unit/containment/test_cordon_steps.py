"""The guard that stands, whom it caught and since when, and a launch against it: on paper."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any

import pytest

from tasks.containment import cordon_trial
from tasks.containment.cordon import IncidentCordon, caught
from tasks.containment.cordon_trial import challenge
from tasks.containment.members import guard_of
from tasks.containment.release.thaw import thaw
from tasks.containment.release.uncordon import uncordon
from tasks.custody.containment.identity import Identity
from tasks.host.guard_config import GuardConfig
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tasks.system import polling
from tests.support.paper_clock import PaperClock
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

OLD, NEW = process(1, ("old guard",)), process(2, ("new guard",))
TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")


class GuardedHost(PaperHost):
    """A host on which a guard stands; `code` is how what was launched has ended, `acts` what was done in order."""

    def __init__(self, *processes: Process, root: Path) -> None:
        """The old guard stands."""
        super().__init__(OLD, *processes, root=root)
        self.stands = OLD.identity
        self.code: int | None = None
        self.acts: list[str] = []

    def hold(self, orders: GuardConfig) -> Identity:
        """The new one takes over, and the old one lives on until it is ended."""
        del orders
        self.processes[NEW.pid] = NEW
        self.stands = NEW.identity
        return NEW.identity

    def has_lock(self, identity: Identity, path: Path) -> bool:
        """Whoever stands has it."""
        del path
        return identity == self.stands

    def refuses(self, path: Path) -> bool:
        """It is held."""
        del path
        return True

    def holder(self, path: Path) -> Process | None:
        """Who stands."""
        del path
        return self.get_process(self.stands) if self.stands else None

    def release(self, marker: Path) -> bool:
        """The marker is removed; this guard is none of those that it names."""
        del marker
        return False

    def exit_code(self, identity: Identity) -> int | None:
        """How it ended."""
        del identity
        return self.code

    def start(
        self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]
    ) -> Identity:
        """The launcher."""
        del command, folder, log, user, environment
        self.processes[LAUNCHER.pid] = LAUNCHER
        return LAUNCHER.identity

    def signal(self, identity: Identity, number: Signals) -> None:
        """Write it down."""
        self.acts.append(f"{number.name} {identity.pid}")
        super().signal(identity, number)

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Write it down."""
        who = list(identities)
        self.acts += [f"wait {each.pid}" for each in who]
        return super().wait_gone(who, seconds)


LAUNCHER = process(9, ("launch",))


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(training_command=["launch"], training_refused=[7])) as context:
        context.adapters.host = GuardedHost(root=small.root)
        yield context


def host_of(run: RunContext) -> GuardedHost:
    assert isinstance(run.adapters.host, GuardedHost)
    return run.adapters.host


def write(run: RunContext, *rows: dict[str, Any]) -> None:
    run.cordon_files.caught.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_guard_with_other_orders_is_relieved_and_waited_for(run: RunContext) -> None:
    IncidentCordon(run).hold("why")
    assert host_of(run).acts == [f"SIGTERM {OLD.pid}", f"wait {OLD.pid}"]
    assert guard_of(run.adapters.host, run.cordon_files.marker) == NEW.identity


def test_who_was_caught_when_the_incident_was_opened_or_later_counts(run: RunContext) -> None:
    opened = run.incident.opened_at
    times = [opened - timedelta(microseconds=1), opened, opened + timedelta(microseconds=1)]
    write(run, *({"at": at.isoformat(), "number": number} for number, at in enumerate(times)), {"at": "never"}, {})
    assert [row["number"] for row in caught(run.cordon_files, run.incident.opened_at)] == [1, 2]


@pytest.mark.parametrize(
    ("after", "ended", "left"), [(-1, False, True), (0, True, False), (1, True, False)], ids=["before", "with", "after"]
)
def test_uncordon_ends_whom_the_guard_has_caught_and_nobody_who_ran_before_it(
    run: RunContext,
    after: int,
    ended: bool,  # noqa: FBT001
    left: bool,  # noqa: FBT001
) -> None:
    since = 50
    who = replace(
        process(3, TRAINING, cwd=str(run.directory.root), state="T"), identity=Identity(process(3).pid, since + after)
    )
    run.adapters.host = GuardedHost(who, root=run.workload.root)
    run.cordon_files.marker.write_text(json.dumps({"pid": OLD.pid, "start": since}))
    write(run, {"at": "now", "identity": {"pid": who.pid, "start": since + after}, "command": "train"})
    result = uncordon(run.adapters.host, run.adapters.scheduler, run.workload, run.log)
    assert (bool(result.ended), bool(result.remaining)) == (ended, left)
    assert ((who.pid, SIGKILL) in run.adapters.host.sent) is ended


@pytest.mark.slow
def test_a_guard_whose_marker_no_disk_has_taken_is_gone_before_anybody_is_thawed(run: RunContext) -> None:
    host = host_of(run)
    stopped = process(3, TRAINING, cwd=str(run.directory.root), state="T")
    host.processes[stopped.pid] = stopped
    write(run, {"at": run.incident.opened_at.isoformat(), "identity": {"pid": stopped.pid, "start": 3}})
    result = made(thaw.fn(run))
    assert result.thawed == (f"process {stopped.pid}",)
    assert host.acts == [f"SIGTERM {OLD.pid}", f"wait {OLD.pid}", f"SIGCONT {stopped.pid}"]


@pytest.mark.slow
def test_what_a_start_that_died_has_frozen_is_let_go_and_forgotten(run: RunContext) -> None:
    one, gone = process(3, TRAINING, cwd=str(run.directory.root), state="T"), process(4)
    host_of(run).processes[one.pid] = one
    rows = [{"pid": each.pid, "start": each.identity.start, "at": "2026-01-02T03:04:05+00:00"} for each in (one, gone)]
    run.cordon_files.early.write_text(json.dumps(rows))
    run.cordon_files.early.chmod(0o644)
    result = made(thaw.fn(run))
    assert (result.thawed, result.gone) == ((f"process {one.pid}",), ())
    assert (one.pid, SIGCONT) in host_of(run).sent
    assert not run.cordon_files.early.exists()


def test_a_stranger_that_a_file_of_ours_names_is_not_let_go(run: RunContext) -> None:
    stranger = process(3, ("/bin/other",), state="T")
    host_of(run).processes[stranger.pid] = stranger
    at = run.incident.opened_at.isoformat()
    write(run, {"at": at, "identity": {"pid": stranger.pid, "start": 3}}, {"at": at, "identity": {"pid": "none"}})
    assert made(thaw.fn(run)).thawed == ()
    assert stranger.pid not in {pid for pid, _ in host_of(run).sent}


def test_a_launch_that_stands_is_caught_whatever_could_be_written_down(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "time", clock := PaperClock(0.0))
    pause = clock.sleep

    def stand(seconds: float) -> None:
        pause(seconds)
        host_of(run).processes[LAUNCHER.pid] = replace(LAUNCHER, state="T")

    monkeypatch.setattr(clock, "sleep", stand)
    assert made(challenge.fn(run)).caught == f"the guard froze process {LAUNCHER.pid}"


def test_a_launch_that_ends_by_itself_is_waited_after_for_what_it_may_have_detached(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = PaperClock(0.0)
    monkeypatch.setattr(polling, "time", clock)
    host_of(run).code, began = 1, clock.now
    assert "the launcher ended with 1 by itself" in made(challenge.fn(run)).skipped
    assert began + 3 <= clock.now < began + 4
    (told,) = (each for each in run.log.entries() if each["action"] == "challenged")
    assert told["object"] == str(LAUNCHER.pid)


def test_a_launch_that_neither_ends_nor_is_caught_is_given_up_and_ended(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = PaperClock(0.0)
    monkeypatch.setattr(polling, "time", clock)
    began = clock.now
    result = made(challenge.fn(run))
    assert (result.caught, result.skipped) == ("", "")
    assert began + 30 <= clock.now < began + 31
    assert [number for pid, number in host_of(run).sent if pid == LAUNCHER.pid][-1] is SIGKILL


def test_a_launch_that_is_refused_is_told(run: RunContext) -> None:
    host_of(run).code = 7
    assert made(challenge.fn(run)).caught == "the launcher was refused and ended with 7"


def catch_late(run: RunContext, monkeypatch: pytest.MonkeyPatch, who: Process) -> None:
    """Two seconds after the launch the guard has caught this one."""
    monkeypatch.setattr(polling, "time", clock := PaperClock(0.0))
    began, pause = clock.now, clock.sleep
    row = {"at": "9999-01-01T00:00:00+00:00", "identity": {"pid": who.pid, "start": who.identity.start}}

    def caught_late(seconds: float) -> None:
        pause(seconds)
        if clock.now > began + 2:
            host_of(run).processes[who.pid] = who
            write(run, row)

    monkeypatch.setattr(clock, "sleep", caught_late)


def test_whom_the_launcher_has_left_in_its_session_counts_though_it_has_ended(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_of(run).code, detached = 0, process(77, TRAINING, state="T", session=LAUNCHER.pid)
    catch_late(run, monkeypatch, detached)
    assert made(challenge.fn(run)).caught == f"the guard froze process {detached.pid}"


@pytest.mark.slow
@pytest.mark.parametrize("code", [None, 0], ids=["lives", "something of it is at large"])
def test_whom_somebody_else_has_started_does_not_count_as_the_launch(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    monkeypatch.setattr(cordon_trial, "_at_large", lambda *_: True)
    host_of(run).code, other = code, process(77, TRAINING, state="T")
    catch_late(run, monkeypatch, other)
    result = made(challenge.fn(run))
    assert not result.is_complete
    assert result.warnings == (f"caught while a launch was tried, but not known to come of it: process {other.pid}",)


def test_a_launcher_that_has_a_daemon_start_the_training_is_known_by_that_nothing_of_it_is_at_large(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with systemctl start, at or sbatch."""
    host_of(run).code = 0
    catch_late(run, monkeypatch, other := process(77, TRAINING, state="T"))
    assert made(challenge.fn(run)).caught.endswith(f"and the guard froze process {other.pid}")


def test_that_no_guard_stands_is_said(run: RunContext) -> None:
    host_of(run).stands = None
    state = IncidentCordon(run).look()
    assert (state.held, state.reason) == (False, "no guard stands")
    assert SIGTERM not in {number for _, number in host_of(run).sent}
