"""What is about to be sent is on disk before it is sent, so that a run that dies, or a reboot, leaves no riddle."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End, Returned
from tasks.host.host import LinuxHost
from tasks.incident.layout import FROZEN, RETURNED, SINCE, STOPPED, STOPPING
from tests.support.flushes import named
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Stop, Watch
    from tasks.runtime.context import RunContext

Event = tuple[str, str]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What this process does, in order: each signal by its name, each flush to the disk by the name of its file."""
    found: list[Event] = []
    fsync, send = os.fsync, LinuxHost.signal

    def flush(descriptor: int) -> None:
        fsync(descriptor)
        found.append(("on disk", named(descriptor).name))

    def sent(self: LinuxHost, identity: Identity, number: signal.Signals) -> None:
        found.append(("sent", number.name))
        send(self, identity, number)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(LinuxHost, "signal", sent)
    return found


def before(events: Iterable[Event], moment: Event) -> list[Event]:
    """What comes before the first event of this kind."""
    told = list(events)
    return told[: told.index(moment)]


def new(name: str) -> Event:
    """A file that is written whole has another name until it is."""
    return ("on disk", f".{name}.new")


def test_the_freeze_waits_for_no_disk_and_its_journal_is_there_before_the_thaw(
    small: SmallWorkload, events: list[Event]
) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        events.clear()
        freeze.fn(context)
        assert before(events, new(SINCE))[:4] == [("sent", "SIGSTOP")] * 4
        stop.fn(context)
        folder = ("on disk", context.directory.path.name)
        for moment in (("sent", "SIGINT"), ("sent", "SIGCONT")):
            flushed = before(events, moment)
            for name in (SINCE, FROZEN, STOPPING):
                assert folder in flushed[flushed.index(new(name)) :], name


def test_what_is_killed_is_on_disk_before(small: SmallWorkload, events: list[Event]) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        context.run = replace(context.run, policy="kill")
        freeze.fn(context)
        stop.fn(context)
        flushed = before(events, ("sent", "SIGKILL"))
        assert ("on disk", context.directory.path.name) in flushed[flushed.index(new(STOPPING)) :]
        assert json.loads((context.directory.path / STOPPING).read_bytes()) == []
        assert len(json.loads((context.directory.path / STOPPED).read_bytes())) == 4


DIE = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from tasks.host.host import LinuxHost
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload
root, port, policy, name, count = sys.argv[1:]
small = SmallWorkload.__new__(SmallWorkload)
small.root, small.port, left, send = Path(root), int(port), [int(count)], LinuxHost.signal
def signal_and_die(self, identity, number):
    send(self, identity, number)
    left[0] -= number.name == name
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
LinuxHost.signal = signal_and_die
with case_of(small.block(grace_seconds=30)) as case:
    case.run = replace(case.run, policy=policy)
    freeze.fn(case)
    stop.fn(case)
"""


@contextmanager
def after_a_run_that_died(small: SmallWorkload, policy: str, name: str, count: int) -> "Iterator[RunContext]":
    """The next run of the incident, after one that died as soon as it had sent that many of this signal."""
    told = [str(small.root), str(small.port), policy, name, str(count)]
    died = subprocess.run([sys.executable, "-c", DIE, *told], cwd=Path(__file__).parents[3], check=False)
    assert died.returncode == -signal.SIGKILL
    with case_of(small.block(grace_seconds=30)) as context:
        yield context


@pytest.mark.whole
@pytest.mark.parametrize(
    ("policy", "name", "count", "ends"),
    [
        pytest.param("graceful", "SIGINT", 1, {End.STOPPED}, marks=pytest.mark.soak),
        ("graceful", "SIGINT", 4, {End.STOPPED}),
        pytest.param("graceful", "SIGCONT", 4, {End.STOPPED}, marks=pytest.mark.soak),
        pytest.param("kill", "SIGKILL", 1, {End.KILLED}, marks=pytest.mark.soak),
        ("kill", "SIGKILL", 4, {End.KILLED}),
    ],
)
def test_the_next_run_tells_what_one_that_died_in_its_stop_was_sending(
    small: SmallWorkload, policy: str, name: str, count: int, ends: set[End]
) -> None:
    small.start_all()
    with after_a_run_that_died(small, policy, name, count) as context:
        if name != "SIGINT":
            wait_until(lambda: len(small.living()) <= 4 - count, what="the end of those that it had sent it to")
        context.run = replace(context.run, policy="kill" if policy == "kill" else "graceful")
        freeze.fn(context)
        stopped: Stop = made(stop.fn(context))
        assert len(stopped.processes) == 4
        assert {receipt.end for receipt in stopped.processes} == ends
        for receipt in stopped.processes:
            assert name in [sent for sent, _ in receipt.signals]
            assert "announced by an earlier run" in receipt.reason
        unknown = [receipt for receipt in stopped.processes if "at an unknown moment" in receipt.reason]
        assert {receipt.gone_at for receipt in unknown} <= {None}
        assert len(unknown) >= (0 if name == "SIGINT" else count)


def test_what_a_watch_that_died_was_about_to_kill_is_told_as_killed(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        gone = Returned(Identity(1 << 22, 1), "api", "run", "a loop", End.SURVIVED)
        context.state.returned.write([gone])
        watched: Watch = made(watch.fn(context))
        assert watched.returned == (replace(gone, end=End.KILLED),)
        assert watched.is_complete


def test_what_comes_back_is_on_disk_before_it_is_killed(small: SmallWorkload, events: list[Event]) -> None:
    with case_of(small.block()) as context:
        small.start(WORKERS="0")
        watched: Watch = made(watch.fn(context))
        assert [each.end for each in watched.returned] == [End.KILLED]
        assert ("on disk", context.directory.path.name) in before(events, ("sent", "SIGKILL"))
        assert new(RETURNED) in before(events, ("sent", "SIGKILL"))
