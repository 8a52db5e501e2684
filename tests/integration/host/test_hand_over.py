"""A new incident under a standing cordon: another guard takes over, and the lock is free at no moment of it."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.containment.cordon import IncidentCordon, cordon
from tasks.custody.containment.identity import Identity
from tasks.host import file_lock as lock
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, stand, wait_until

HAMMER = """
import fcntl, os, signal, sys
ended, taken = [], 0
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
lock = os.open(sys.argv[1], os.O_RDWR)
print("at it", flush=True)
while not ended:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        continue
    taken += 1
    fcntl.flock(lock, fcntl.LOCK_UN)
print(taken, flush=True)
"""


@contextmanager
def hammered(path: Path, taken: list[int]) -> Iterator[None]:
    """A launcher that tries the lock without a pause; how often it got it is written down in the end."""
    with subprocess.Popen([sys.executable, "-c", HAMMER, path], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout
        assert launcher.stdout.readline() == b"at it\n"
        try:
            yield
        finally:
            launcher.terminate()
            taken.append(int(launcher.stdout.readline()))


@contextmanager
def looked_at(marker: Path, unnamed: list[int]) -> Iterator[None]:
    """Somebody who asks the marker for its guard all the time; how often it named none that lives."""
    over = threading.Event()

    def look() -> None:
        host, missed = LinuxHost(), 0
        while not over.wait(0.001):  # asked twice: the marker may change between its reading and the look
            missed += host.guard(marker) is None and host.guard(marker) is None
        unnamed.append(missed)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def lives(guard: Identity) -> bool:
    process = LinuxHost().get_process(guard)
    return process is not None and process.alive


def next_incident(context: RunContext, number: int) -> None:
    context.incident = replace(context.incident, id=f"IR-20260102T03040{number}Z")


@pytest.mark.soak
def test_five_incidents_in_a_row_leave_the_lock_to_nobody(small: SmallWorkload) -> None:
    """In the fifth of a second between two guards a launcher had it three hundred times, and §1 ended red."""
    taken, unnamed, guards, held = list[int](), list[int](), set[Identity | None](), list[bool]()
    with case_of(small.block()) as context:
        guards.add(made(cordon.fn(context)).guard)
        with hammered(context.workload.lock, taken), looked_at(context.cordon_files.marker, unnamed):
            for number in range(5):
                next_incident(context, number)
                state = made(cordon.fn(context))
                held.append(state.held)
                guards.add(state.guard)
        assert (taken, unnamed, held) == ([0], [0], [True] * 5)
        assert len(guards) == 6
        assert {who for who in guards if who and lives(who)} == {LinuxHost().guard(context.cordon_files.marker)}


def test_a_guard_that_hands_over_nothing_is_followed_by_one_that_waits_already(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard of the version before knows nothing of it: the next one has to stand in line before it is ended."""
    order = list[str]()
    signal = LinuxHost.signal

    def told(self: LinuxHost, identity: Identity, number: int) -> None:
        follower = context.adapters.host.started_guard
        assert follower
        order.append("waits" if lock.waits(follower.pid, context.workload.lock) else "is not there yet")
        signal(self, identity, number)  # type: ignore[arg-type]
        first.resume()

    monkeypatch.setattr("tasks.host.file_lock.request_lock", lambda *_: None)
    monkeypatch.setattr("tasks.host.host._LINE_SECONDS", 90.0)
    monkeypatch.setattr(LinuxHost, "signal", told)
    with case_of(small.block()) as context:
        first = psutil.Process(made(cordon.fn(context)).guard.pid)
        stand(first)  # one of this version would leave by itself as soon as the marker names the next
        next_incident(context, 1)
        assert made(cordon.fn(context)).held
        assert order == ["waits"]
        monkeypatch.undo()


def test_a_guard_that_only_waits_hands_over_its_place_in_the_line(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context, subprocess.Popen(["flock", block.lock, "sleep", "60"]) as holder:
        wait_until(lambda: LinuxHost().refuses(block.lock), what="somebody else's lock")
        assert not made(cordon.fn(context)).held
        next_incident(context, 1)
        state = made(cordon.fn(context))
        assert not state.held
        assert state.reason.endswith("holds it; the guard waits")
        for each in psutil.Process(holder.pid).children():
            each.kill()
        wait_until(lambda: bool(state.guard and LinuxHost().has_lock(state.guard, block.lock)), what="its turn")


def test_another_file_in_the_place_of_the_lock_is_not_taken_from_the_guard(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        context.workload.lock.unlink()
        context.workload.lock.touch()
        next_incident(context, 1)
        assert made(cordon.fn(context)).held


def descriptors_given(name: str, into: Any) -> None:
    """Ask at a door as another user."""
    os.setresuid(65534, 65534, 65534)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(name)
        into.send(len(socket.recv_fds(asking, 1, 1)[1]))


def test_a_stranger_at_the_door_is_given_nothing(small: SmallWorkload) -> None:
    if os.geteuid():
        pytest.skip("only root can be another user")
    with case_of(small.block()) as context:
        guard = made(cordon.fn(context)).guard
        assert guard
        ours = lock.request_lock(guard, context.workload.lock)
        assert ours is not None
        os.close(ours)
        told, telling = multiprocessing.Pipe(duplex=False)
        asks = multiprocessing.get_context("fork").Process(target=descriptors_given, args=(lock.door(guard), telling))
        asks.start()
        asks.join()
        assert told.recv() == 0


def test_nobody_believes_the_door_of_a_stranger(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a socket of that name is not the guard: nothing that it gives is taken."""
    monkeypatch.setattr(lock, "_START_SECONDS", 0.5)  # how long one that starts may take
    path = small.block().lock
    path.touch()
    with psutil.Popen(["sleep", "60"]) as other, socket.socket(socket.AF_UNIX) as forged:
        claimed = Identity(other.pid, start_of(other.pid))
        forged.bind(lock.door(claimed))
        forged.listen()
        assert lock.request_lock(claimed, path) is None
        other.kill()
    assert lock.request_lock(Identity(os.getpid(), start_of(os.getpid()) + 1), path) is None


def test_a_guard_that_was_relieved_and_never_told_leaves_by_itself(small: SmallWorkload) -> None:
    """The run that relieved it was killed before it could end it: two guards stood, and one was in no marker."""
    with case_of(small.block()) as context:
        first = made(cordon.fn(context)).guard
        assert first
        told = replace(IncidentCordon(context).orders("why"), incident="IR-20260102T030409Z")
        second = context.adapters.host.hold(told)
        wait_until(lambda: not lives(first), what="the end of the first")
        assert context.adapters.host.guard(context.cordon_files.marker) == second
        assert context.adapters.host.has_lock(second, context.workload.lock)


def test_a_guard_that_is_told_to_go_ends_by_itself(small: SmallWorkload) -> None:
    """A thread of it that does not block SIGTERM would have it killed in the middle of a line."""
    with case_of(small.block()) as context:
        guard = made(cordon.fn(context)).guard
        assert guard
        wait_until(
            lambda: not (look := context.adapters.host.get_process(guard)) or not look.masks.heeds(signal.SIGTERM),
            what="its post",
        )
        assert context.adapters.host.release(context.cordon_files.marker)
        assert context.adapters.host.exit_code(guard) == 0
