"""Joining by files alone: what an incident leaves on the host decides, and a trigger is kept once, whole."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.custody.containment.identity import Identity
from tasks.custody.incident.alarm import Alarm, belongs_to
from tasks.host.process.table import start_of
from tasks.incident.joining import incident_of, leave, past, read_triggers, take_over_triggers
from tasks.incident.layout import CAUGHT, FROZEN, OWNER, RETURNED
from tasks.incident.run_lock import (
    Purpose,
    give_up_ownership,
    incident_at_work,
    keep_ownership,
    owner,
    sign,
    take_ownership,
)
from tasks.runtime.context import RunContext
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload

ALARM = Alarm(event="training.failed", exit_code=3, run="0f0b4a80-1111-4222-8333-abcdefabcdef")


@pytest.fixture
def context(small: SmallWorkload) -> Iterator[RunContext]:
    small.start_all()
    with case_of(small.block()) as opened:
        yield opened


def close(context: RunContext, word: str) -> None:
    """A record of this verdict, as far as it is looked at."""
    (context.directory.path / "record/001").mkdir(parents=True)
    (context.directory.path / "record/001/closing.json").write_text(json.dumps({"verdict": word}))


def joined(context: RunContext, alarm: Alarm) -> str:
    return belongs_to(alarm, past([context.directory.base]))


def test_whom_the_freeze_has_met_is_known_for_ever_by_pid_and_by_the_run_it_worked_for(small: SmallWorkload) -> None:
    run = "0f0b4a80-1111-4222-8333-abcdefabcdef"
    training = small.start(PREFECT__FLOW_RUN_ID=run)
    who = Identity(training.pid, start_of(training.pid))
    with case_of(small.block()) as context:
        assert joined(context, Alarm(run=run)) == ""
        freeze.fn(context)
        assert joined(context, Alarm(run=run)) == INCIDENT
        assert joined(context, Alarm(pid=who.pid, start=who.start)) == INCIDENT
        assert joined(context, Alarm(pid=who.pid, start=who.start + 1)) == ""
        (context.directory.path / FROZEN).rename(context.directory.path / "frozen-another0.json")  # a reboot later
        assert joined(context, Alarm(run=run)) == INCIDENT
        assert joined(context, Alarm(pid=who.pid, start=who.start)) == ""


def test_newcomers_that_were_held_are_known_too(context: RunContext) -> None:
    row = {"identity": {"pid": 41, "start": 7}}
    (context.directory.base / CAUGHT).write_text(json.dumps(row) + "\n")
    (context.directory.path / RETURNED).write_text(json.dumps([{"identity": {"pid": 42, "start": 7}}]))
    assert {joined(context, Alarm(pid=pid, start=7)) for pid in (41, 42)} == {INCIDENT}


@pytest.mark.parametrize(("word", "incident"), [("UNVERIFIED", INCIDENT), ("NOTCONTAINED", ""), ("", "")])
def test_a_cordon_is_joined_only_over_a_workload_that_was_proven_contained(
    context: RunContext, word: str, incident: str
) -> None:
    cordon.fn(context)
    if word:
        close(context, word)
    assert joined(context, ALARM) == incident
    context.adapters.host.release(context.cordon_files.marker)
    assert joined(context, ALARM) == ""


def test_a_marker_without_a_guard_of_ours_is_joined_by_nobody(context: RunContext) -> None:
    close(context, "VERIFIED")
    me = {"pid": os.getpid(), "start": start_of(os.getpid())}
    context.cordon_files.marker.write_text(json.dumps({"incident": INCIDENT, **me}))
    assert joined(context, ALARM) == ""


def test_a_folder_that_others_may_write_to_says_nothing(context: RunContext) -> None:
    forged = context.directory.base / "IR-20990101T000000Z"
    forged.mkdir()
    forged.chmod(0o777)
    (forged / FROZEN).write_text(json.dumps([{"identity": {"pid": 41, "start": 7}}]))
    (context.directory.base / "IR-20990102T000000Z").symlink_to(forged)
    assert joined(context, Alarm(pid=41, start=7)) == ""
    forged.chmod(0o700)
    assert joined(context, Alarm(pid=41, start=7)) == forged.name


def test_damaged_files_are_no_reason_not_to_evacuate(context: RunContext) -> None:
    for name in (FROZEN, "custody.jsonl", RETURNED):
        (context.directory.path / name).write_text('[{"identity": 1}, 2, {"run": 3}]\n{"actor"\n')
    (context.directory.base / CAUGHT).write_text("{\n")
    close(context, "VERIFIED")
    assert joined(context, ALARM) == ""


def test_who_is_at_work_is_joined_from_the_moment_it_names_its_incident(tmp_path: Path) -> None:
    mine = take_ownership(tmp_path)
    assert mine is not None
    assert incident_of(ALARM, [tmp_path], wait=0) == ""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(incident_of, ALARM, [tmp_path])
        sign(mine, "evacuation", INCIDENT)
        assert waiting.result(20) == INCIDENT
    sign(mine, "recovery")
    assert incident_at_work(tmp_path) == ""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(incident_of, ALARM, [tmp_path])
        os.close(mine)
        assert waiting.result(20) == "", "a run that ends without an incident leaves the next one to go"


@pytest.mark.parametrize("purpose", ["evacuation", "thaw"])
def test_who_lets_go_is_joined_no_more_by_what_fails_then(context: RunContext, purpose: Purpose) -> None:
    base, before = context.directory.base, datetime.now(UTC)
    lock = os.open(base / OWNER, os.O_WRONLY)
    sign(lock, purpose, INCIDENT)
    os.close(lock)
    freeze.fn(context)
    assert incident_of(ALARM, [base], wait=0) == (INCIDENT if purpose == "evacuation" else "")
    thaw.fn(context)
    assert incident_of(replace(ALARM, occurred=datetime.now(UTC)), [base], wait=0) == ""
    assert incident_of(replace(ALARM, occurred=before), [base], wait=0) == INCIDENT
    assert owner(base) == purpose


def test_the_lock_that_was_kept_is_taken_on_by_the_same_process_and_by_nobody_else(tmp_path: Path) -> None:
    first = take_ownership(tmp_path)
    assert first is not None
    keep_ownership(tmp_path, first)
    assert take_ownership(tmp_path) == first
    assert take_ownership(tmp_path) is None
    keep_ownership(tmp_path, first)
    give_up_ownership(tmp_path)
    assert owner(tmp_path) == ""


def test_a_trigger_is_left_once_and_taken_over_once(context: RunContext) -> None:
    assert leave([context.directory.base], INCIDENT, "run-a", ALARM)
    assert leave([context.directory.base], INCIDENT, "run-a", Alarm(exit_code=9))
    assert leave([context.directory.base], INCIDENT, "run-b", None)
    assert not leave([context.directory.base], "IR-20990101T000000Z", "run-c", ALARM)
    assert [(each["run"], each["alarm"].get("exit_code")) for each in read_triggers(context.directory.path)] == [
        ("run-a", 3),
        ("run-b", None),
    ]
    assert sorted(path.name for path in (context.directory.path / "triggers").iterdir()) == ["run-a.json", "run-b.json"]
    for _ in range(2):
        take_over_triggers(context.directory.path, context.log)
    logged = [entry["object"] for entry in context.log.entries() if entry["action"] == "triggered"]
    assert logged == ["run-a", "run-b"]


def test_fifty_at_once_leave_fifty(context: RunContext) -> None:
    with ThreadPoolExecutor(50) as pool:
        done = list(
            pool.map(lambda number: leave([context.directory.base], INCIDENT, f"run-{number}", ALARM), range(50))
        )
    assert all(done)
    assert len({each["run"] for each in read_triggers(context.directory.path)}) == 50
