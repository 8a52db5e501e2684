"""What a run by hand shows while it goes on: a line a phase, warnings, and no log lines."""

import logging
import os
import re
import sys
from contextlib import suppress
from functools import partial

import pytest

from flows.command import phases as phases_module
from flows.command.phases import Phases, phases
from tasks.custody.errors import Refused
from tasks.custody.store.silence import StoreSilence
from tasks.system.cancellation import RunCancelled
from tests.support.workloads import wait_until

STEPS = logging.getLogger("tasks.runtime.step")


def ended(step: str, message: str) -> None:
    STEPS.info("%s  %s", f"§2 {step}", message, extra={"step_id": step})


def test_a_phase_is_one_line_with_its_seconds_and_collectors_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    with phases():
        ended("freeze", "凍結: 4 processes frozen")
        ended("collect", "採取: collected: 1 files")
        ended("stop", f"停止: {'x' * 900}\n\x1b[2J")
    told = capsys.readouterr()
    assert told.out == ""
    first, second = told.err.splitlines()
    assert re.fullmatch(r" *[\d.]+ s  §2 freeze  凍結: 4 processes frozen", first)
    assert len(second) < 170
    ended("freeze", "again")
    assert capsys.readouterr().err == "", "outside of a run by hand nothing is printed"


def test_a_run_that_is_silent_names_the_steps_at_work_until_they_end(capfd: pytest.CaptureFixture[str]) -> None:
    told = ""

    def is_told(line: str) -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return line in told

    with phases(silence=0.01):
        logging.shutdown()  # as dictConfig does, by which Prefect begins
        STEPS.debug("§5 claim the incident in the store", extra={"begins": True})
        wait_until(partial(is_told, "s  at work 実行中: §5 claim the incident in the store\n"), what="the line")
        STEPS.debug("§5 offload", extra={"begins": True})
        STEPS.debug("§5 claim the incident in the store", extra={"begins": False})
        wait_until(partial(is_told, "s  at work 実行中: §5 offload\n"), what="the other line")
        STEPS.debug("§5 offload", extra={"begins": False})
    capfd.readouterr()
    with phases(silence=60):
        STEPS.debug("§5 offload", extra={"begins": True})
    assert capfd.readouterr().err == ""


def test_a_run_is_silent_for_no_longer_than_that_after_any_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line just after a look at the clock put the next one off by another look: 36 s of silence."""
    now, told = 0.0, list[float]()
    monkeypatch.setattr(phases_module, "monotonic", lambda: now)
    shown = Phases(20.0)
    monkeypatch.setattr(shown._watch, "start", lambda: None)
    step = logging.LogRecord("x", logging.DEBUG, "", 0, "§5 push", (), None)
    vars(step)["begins"] = True  # as `extra` does
    shown.emit(step)

    def wait(seconds: float) -> bool:
        nonlocal now
        if "at work" in capfd.readouterr().err:
            told.append(now)
        if now < 6.4 <= now + seconds:
            now = 6.4
            shown._print("§3 prove contained")
        else:
            now += seconds
        return len(told) == 3

    monkeypatch.setattr(shown._ended, "wait", wait)
    shown._tell_silence()
    assert told == pytest.approx([26.4, 46.4, 66.4])


def test_of_a_store_that_does_not_answer_it_says_since_when_and_until_when_it_is_tried(
    capfd: pytest.CaptureFixture[str],
) -> None:
    silence = StoreSilence("s3://evidence/lab", 0.0, 4, "ReadTimeoutError", until=62.0, seconds=62.0)
    told, answers = "", False

    def is_told(line: str) -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return line in told

    with phases(silence=0.01):
        tell = {"begins": True, "silence": lambda: "" if answers else silence.tell_waiting(1, 1.0)}
        STEPS.debug("§5 claim", extra=tell)
        end = "tried in this step until about 00:02:05Z この工程の目安: s3://evidence/lab"
        line = f"§5 claim; the store does not answer 保全先の応答なし since 00:00:00Z, {end}"
        wait_until(partial(is_told, f"at work 実行中: {line}\n"), what="the line")
        answers = True
        wait_until(partial(is_told, "at work 実行中: §5 claim\n"), what="the line of a store that answers again")


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.task_runs"])
def test_prefects_lines_on_steps_are_left_out_and_its_warnings_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, told = logging.getLogger(name), list[str]()
    monkeypatch.setattr(logger, "handle", lambda each: told.append(each.getMessage()) if logger.filter(each) else None)
    with phases():
        logger.info("Beginning flow run 'evacuate lab'")
        logger.error("Finished in state %s", "Failed('not contained')")
        logger.error("Encountered exception during execution", exc_info=Refused("a", "b", "c"))
        logger.error("Task run failed with state: Failed(message='not in the store') - Retries are exhausted")
        logger.error("Task run failed", exc_info=RunCancelled("not begun: the run was cancelled"))
        logger.warning("the disk is slow")
        logger.error("a bug", exc_info=ValueError())
    assert told == ["the disk is slow", "a bug"]
    logger.error("Finished in state Failed()")
    assert told[2:] == ["Finished in state Failed()"], "outside of a run by hand it is as it was"


def test_no_step_fails_because_nobody_reads_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    gone = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", gone)
    with phases():
        ended("stop", "停止: 4 stopped")
    monkeypatch.undo()
    with suppress(BrokenPipeError):
        gone.close()
