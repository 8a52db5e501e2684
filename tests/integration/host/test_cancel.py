"""A cancelled run, step by step: what is in hand ends soon, nothing else begins, nobody else may begin meanwhile."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed

from tasks.acquisition.collector import Target
from tasks.cli.status import look
from tasks.collectors import discover
from tasks.collectors.attempt import attempt
from tasks.containment.containers.stop import StoppingContainer
from tasks.containment.containment_check import find_endable, prove_still_contained, stance
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.members import Membership
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.containment.receipt import End, FrozenContainer
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.incident.stance import Stance
from tasks.custody.step_result import StepResult
from tasks.host.container.membership import Container
from tasks.host.host import LinuxHost
from tasks.incident.run_lock import take_ownership
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.record.final_state import final_state
from tasks.record.findings import note_cancelled, verdict_of
from tasks.runtime.context import RunContext
from tasks.runtime.step import end_of, step
from tasks.system.cancellation import Cancellation, RunCancelled, cancel_on_signals, still_acts
from tests.integration.host.test_contain import states, stubborn
from tests.integration.host.test_suspects import apart
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import contained_findings
from tests.support.workloads import SmallWorkload, wait_until

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Containment, Stop

SOON = 10.0


@pytest.mark.timeout(60)
def test_an_order_that_another_thread_hears_ends_the_main_threads_wait() -> None:
    cancelled, step_in_hand = Cancellation(), Future[State[object]]()

    def hear() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def end_once_cancelled() -> None:
        wait_until(lambda: cancelled, what="the order to be heeded")
        step_in_hand.set_result(Completed(message="ended"))

    with ThreadPoolExecutor(2) as threads, cancel_on_signals(cancelled):
        threads.submit(lambda: threading.Timer(0.2, hear).start())
        threads.submit(end_once_cancelled)
        assert end_of(PrefectConcurrentFuture(uuid4(), step_in_hand)).message == "ended"


class Done(StepResult):
    """Something was made."""

    summary = "done"


@contextmanager
def cancelled_when(context: RunContext, condition: Callable[[], object]) -> Iterator[None]:
    """Cancel the case as soon as the condition holds."""

    def cancel_then() -> None:
        wait_until(condition, what="the moment to cancel at")
        context.cancelled.order(signal.SIGTERM)

    thread = threading.Thread(target=cancel_then)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def has(context: RunContext, action: str) -> bool:
    return any(entry["action"] == action for entry in context.log.entries())


@pytest.mark.whole
@pytest.mark.parametrize("ignored", [("SIGINT", "SIGTERM"), ("SIGINT", "SIGTERM", "SIGHUP")])
def test_in_the_grace_everybody_is_frozen_again_children_born_meanwhile_too(
    small: SmallWorkload, ignored: tuple[str, ...]
) -> None:
    stubborn(small, *ignored)
    with case_of(small.block(grace_seconds=60)) as context:
        cordon.fn(context)
        freeze.fn(context)
        with cancelled_when(context, lambda: has(context, "deviation")):
            began = time.monotonic()
            stopped: Stop = made(stop.fn(context))
        assert time.monotonic() - began < 60 / 2
        assert states(small.living()) == {psutil.STATUS_STOPPED}
        assert not stopped.is_complete, "a stop that is cached would never be done"
        assert {receipt.end for receipt in stopped.processes} == {End.SURVIVED}
        found: Containment = made(prove_still_contained.fn(context))
        assert not found.is_contained
        assert stance(context, found) == Stance.FROZEN


@contextmanager
def stop_cancelled_when(
    small: SmallWorkload, happens: Callable[[set[int], RunContext], object]
) -> Iterator[RunContext]:
    """A stop of what runs that is cancelled in the grace, and all that lives then stands; `happens` gets new pids."""
    with case_of(small.block(grace_seconds=60)) as context:
        cordon.fn(context)
        freeze.fn(context)
        before = {process.pid for process in small.living()}
        with cancelled_when(context, lambda: happens({each.pid for each in small.living()} - before, context)):
            stop.fn(context)
        assert states(small.living()) == {psutil.STATUS_STOPPED}
        yield context


def test_who_forks_in_the_grace_is_frozen_with_all_its_children(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(
        "import os, signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_IGN)\n"
        "open('ready', 'w').close()\n"
        "while True:\n    time.sleep(0.02)\n    if not os.fork():\n        time.sleep(600)\n"
    )
    small.start()
    wait_until((small.root / "ready").exists, what="the training's start")
    with stop_cancelled_when(small, lambda new, context: has(context, "deviation") and len(new) > 3):
        pass


@pytest.mark.whole
def test_what_was_started_again_in_the_grace_and_is_held_stands_frozen_too(small: SmallWorkload) -> None:
    """It was not called frozen, so the operator was to stop by hand what the next run ends."""
    (small.root / "src/train.py").write_text(
        "import signal, subprocess, sys, time\nif '--again' in sys.argv:\n    time.sleep(600)\n"
        "def start():\n    return subprocess.Popen([sys.executable, *sys.argv, '--again'])\n"
        "child = start()\nfor number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, lambda *_: None)\n"
        "while True:\n    child.wait()\n    child = start()\n"
    )
    small.start()
    wait_until(lambda: len(small.living()) == 2, what="the training and its child")
    with stop_cancelled_when(small, lambda new, _: new) as context:
        found: Containment = made(prove_still_contained.fn(context))
        assert stance(context, found) == Stance.REST_FROZEN, "the first child has ended"
        assert {process.pid for process in small.living()} <= find_endable(IncidentCordon(context), Membership(context))


@pytest.mark.whole
def test_after_some_of_it_was_stopped_it_says_how_many_as_the_refusal_of_a_thaw_does(small: SmallWorkload) -> None:
    """It said "frozen, not stopped", and that nothing of it is lost."""
    stubborn(small, "SIGINT", "SIGTERM")
    server = small.start(small.api_command)
    wait_until(small.healthy, what="the API's answer")
    with stop_cancelled_when(small, lambda _, __: server.poll() is not None) as context:
        found: Containment = made(prove_still_contained.fn(context))
        note_cancelled(context, found, "not stored")
        assert context.cancelled.summary == "1 stopped, the rest frozen"
        message = verdict_of(context, contained_findings(datetime.now(UTC), containment=found)).message
        assert "the run was cancelled: 1 stopped, the rest frozen" in message
        assert "Safe: 1 stopped and the rest stands frozen" in message
        assert "evacuation thaw" not in message
        assert "not stopped" not in message
        assert "is lost" not in message
        state = final_state(context, verdict_of(context, contained_findings(datetime.now(UTC))), "no room", None)
        assert "中止 1 件停止済み・残りは凍結済み" in str(state.message)
        assert why_not_thaw(context.directory.path) == "something of it was stopped already"
        (context.workload.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
        seen = look(context.workload, LinuxHost(root=small.root), has_ended=True)
        assert "lost" not in seen.next.words
        assert "by hand" not in seen.next.words
        assert seen.alternative is None


def test_what_stands_frozen_as_workload_is_no_suspect_as_well(small: SmallWorkload, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import time; held = open({str(small.root / 'logs/shipped')!r}, 'w'); open({str(ready)!r}, 'w'); "
    with (
        apart([sys.executable, "-c", f"{code}time.sleep(600)", "ship logs"], tmp_path, ready) as shipper,
        case_of(small.block()) as context,
    ):
        (context.workload.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
        before = look(context.workload, LinuxHost(root=small.root), has_ended=True)
        assert any(f"kill {shipper.pid}" in each for each in before.suspects)
        context.run = replace(context.run, suspects="include")
        cordon.fn(context)
        freeze.fn(context)
        seen = look(context.workload, LinuxHost(root=small.root), has_ended=True)
        assert [each["state"] for each in seen.processes if each["pid"] == shipper.pid] == ["frozen"]
        assert not any(f"kill {shipper.pid}" in each for each in seen.suspects)


def test_how_the_workload_stands(small: SmallWorkload) -> None:
    training = stubborn(small)
    with case_of(small.block()) as context:
        cordon.fn(context)
        assert stance(context, None) == Stance.NOT_CONTAINED
        freeze.fn(context)
        assert stance(context, None) == Stance.FROZEN
        training.send_signal(signal.SIGCONT)
        wait_until(lambda: psutil.STATUS_STOPPED not in states(small.living()), what="the thaw")
        assert stance(context, None) == Stance.NOT_CONTAINED
        training.kill()
        training.wait(10)
        assert stance(context, made(prove_still_contained.fn(context))) == Stance.CONTAINED


def test_no_step_begins_but_those_that_a_cancelled_run_still_does(small: SmallWorkload) -> None:
    @step("collect", "any", section="§4", ja="任意", retries=1)
    def any_step(context: RunContext) -> Done:
        raise AssertionError(f"it was begun for {context.incident.id}")

    @step("record", "last", section="§8", ja="最後", retries=1, last=True)
    def last_step(context: RunContext) -> Done:
        assert context.cancelled
        return Done()

    with case_of(small.block()) as context:
        context.cancelled.order(signal.SIGINT)
        with pytest.raises(RunCancelled, match="not begun"):
            any_step.fn(context)
        assert made(last_step.fn(context)).summary == "done"
        assert not has(context, "step failed")


def test_a_step_that_heeds_nothing_is_left_behind_and_keeps_the_workload_until_it_ends(small: SmallWorkload) -> None:
    begun, hang = threading.Event(), threading.Event()

    @step("offload", "hang", section="§5", ja="停止中", retries=1, patience=0.1)
    def hanging(context: RunContext) -> Done:
        assert not context.cancelled
        begun.set()
        hang.wait(60)
        return Done()

    block = small.block()
    with case_of(block) as context:
        with cancelled_when(context, begun.is_set), pytest.raises(RunCancelled, match="not finished"):
            hanging.fn(context)
        assert still_acts()
        context.close()
        assert take_ownership(block.evidence) is None, "a second run would start beside what still acts"
        hang.set()
        wait_until(lambda: not still_acts(), what="the end of what was left behind")
        context.close()
        other = take_ownership(block.evidence)
        assert other is not None
        os.close(other)


def test_the_watch_ends(small: SmallWorkload) -> None:
    with case_of(small.block(watch_seconds=600)) as context:
        began = time.monotonic()
        with cancelled_when(context, lambda: time.monotonic() > began), pytest.raises(RunCancelled):
            watch.fn(context)
        assert time.monotonic() - began < SOON


def test_a_collector_in_hand_ends_with_a_written_reason(small: SmallWorkload, tmp_path: Path) -> None:
    program = tmp_path / "sleeps.py"
    program.write_text("import pathlib, time\npathlib.Path(__file__).with_name('up').touch()\ntime.sleep(600)\n")
    globs: dict[str, list[str]] = {"logs": [], "artifacts": [], "models": []}
    target = Target("IR-20260102T030405Z", str(tmp_path), "python", os.geteuid(), globs, [], seconds=600.0)
    with case_of(small.block()) as context, cancelled_when(context, (tmp_path / "up").exists):
        lines, loss = attempt(
            discover()["models"], target, tmp_path, (sys.executable, str(program)), cancelled=context.cancelled
        )
    assert lines == []
    assert loss
    assert (loss.outcome, loss.reason) == (Outcome.TIMED_OUT, "the run was cancelled")


class Engine:
    """A container engine whose only container heeds nothing but a pause."""

    def __init__(self, container: Container) -> None:
        """It is paused, as the freeze left it."""
        self.container, self.did = container, list[str]()

    def get_container(self, id_: str) -> Container:
        """As it is."""
        assert id_ == self.container.id
        return self.container

    def signal(self, id_: str, name: str) -> None:
        """A signal thaws it."""
        self.did.append(f"{name} {id_}")
        self.container = replace(self.container, state="running")

    def pause(self, id_: str) -> None:
        """Pause it again."""
        self.did.append(f"pause {id_}")
        self.container = replace(self.container, state="paused")

    def end_of(self, id_: str, seconds: float) -> int | None:
        """It never ends."""
        threading.Event().wait(seconds)
        raise TimeoutError(id_)

    def close(self) -> None:
        """Nothing is open."""


def test_a_container_that_was_thawed_to_end_is_paused_again(small: SmallWorkload) -> None:
    identity, now = ContainerIdentity("f" * 64, "2026-01-02T03:04:05Z"), datetime.now(UTC)
    engine = Engine(Container(identity, "train", "image", "sha256:1", "paused", restart="no", stop_signal="SIGTERM"))
    frozen = FrozenContainer(identity, "train", "image", "no", auto_remove=False, why="", seen_at=now, paused_at=now)
    with case_of(small.block(grace_seconds=60)) as context:
        context.adapters.__dict__["engine"] = engine
        began = time.monotonic()
        with cancelled_when(context, lambda: engine.did):
            receipt = StoppingContainer(context, frozen).stop(gently=True)
        assert time.monotonic() - began < SOON
    assert engine.did == [f"SIGTERM {identity.id}", f"pause {identity.id}"]
    assert engine.container.state == "paused"
    assert receipt.end is End.SURVIVED


def test_a_signal_raises_nothing_wherever_the_main_thread_is_and_the_first_one_counts() -> None:
    cancelled = Cancellation()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with cancel_on_signals(cancelled):
        assert not cancelled
        signal.raise_signal(signal.SIGTERM)
        first = cancelled.at
        signal.raise_signal(signal.SIGINT)
        assert cancelled
        assert (cancelled.by, cancelled.at) == ("SIGTERM", first)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    heard: list[bool] = []

    def elsewhere() -> None:
        with cancel_on_signals(Cancellation()):
            heard.append(signal.getsignal(signal.SIGTERM) == before[0])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert heard == [True], "only the main thread gets signals"
