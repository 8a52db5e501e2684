"""The freeze before the run begins: a refused start lets go of what it has stopped itself, and of nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.case import FROZEN
from tasks.early import EARLY, freeze_described, thaw_again
from tasks.host import LinuxHost
from tasks.operate import let_go
from tasks.ownership import give_up_ownership
from tasks.proc import start_of
from tests.cases import INCIDENT
from tests.workloads import SmallWorkload, stand, wait_until


def described(small: SmallWorkload, **more: object) -> dict[str, Any]:
    evidence = small.block().evidence
    return {"root": str(small.root), "evidence_dir": str(evidence), **more}


def training(small: SmallWorkload) -> psutil.Process:
    started = psutil.Process(small.start(WORKERS="0").pid)
    wait_until(lambda: started.status() == psutil.STATUS_SLEEPING, what="the training at work")
    return started


def identity(process: psutil.Process) -> dict[str, int]:
    return {"pid": process.pid, "start": start_of(process.pid)}


def journal(base: Path, process: psutil.Process) -> None:
    """An incident in this base has frozen it."""
    home = base / INCIDENT
    home.mkdir(parents=True)
    home.chmod(0o700)
    (home / FROZEN).write_text(json.dumps([{"identity": identity(process), "role": "training", "command": "x"}]))


def refused_start(small: SmallWorkload, **more: object) -> None:
    early = freeze_described(described(small, **more))
    assert early
    wait_until(lambda: all(each.status() == psutil.STATUS_STOPPED for each in small.living()), what="the freeze")
    thaw_again(early)


@pytest.fixture(params=["by a person", "by an incident", "by the start of a run that died"])
def stopped(small: SmallWorkload, request: pytest.FixtureRequest) -> Iterator[psutil.Process]:
    """A process of the workload that somebody else has stopped."""
    process = training(small)
    stand(process)
    evidence = small.block().evidence
    evidence.mkdir(exist_ok=True)
    if request.param == "by an incident":
        journal(evidence, process)
    elif request.param == "by the start of a run that died":
        rows = [{**identity(process), "at": "2026-01-02T03:04:05+00:00"}]
        (evidence / EARLY).write_text(json.dumps(rows))
        (evidence / EARLY).chmod(0o600)
    yield process
    process.kill()


def test_a_refused_start_lets_go_of_what_it_froze_and_of_nothing_else(
    small: SmallWorkload, stopped: psutil.Process
) -> None:
    """`fg` of a person's shell, or an open incident, had to see them run: 'Nothing was touched' was said."""
    running = training(small)
    refused_start(small)
    assert stopped.status() == psutil.STATUS_STOPPED
    assert running.status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize("base", ["evidence", "fallback", "memory"])
def test_what_an_incident_holds_stays_frozen_although_it_ran_again(
    small: SmallWorkload, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run had died in the grace: a start that is refused froze it, and let it run on."""
    monkeypatch.setattr("tasks.early._MEMORY", tmp_path / "memory")
    held, running = training(small), training(small)
    where = {
        "evidence": small.block().evidence,
        "fallback": tmp_path / "disk" / "evacuation-0123",
        "memory": tmp_path / "memory" / "evacuation-0123-0",
    }
    journal(where[base], held)
    refused_start(small, fallback_dir=str(tmp_path / "disk"))
    assert held.status() == psutil.STATUS_STOPPED
    assert running.status() != psutil.STATUS_STOPPED


def test_a_journal_that_somebody_else_may_have_written_keeps_nothing_frozen(small: SmallWorkload) -> None:
    named = training(small)
    journal(small.block().evidence, named)
    (small.block().evidence / INCIDENT).chmod(0o777)
    refused_start(small)
    assert named.status() != psutil.STATUS_STOPPED


def test_what_an_earlier_start_left_frozen_is_still_known_to_uncordon(small: SmallWorkload) -> None:
    left = training(small)
    early = freeze_described(described(small))
    assert early
    wait_until(lambda: left.status() == psutil.STATUS_STOPPED, what="the freeze")
    give_up_ownership(early.path.parent)  # as if it had been killed
    later = training(small)
    refused_start(small)
    assert (left.status(), later.status() != psutil.STATUS_STOPPED) == (psutil.STATUS_STOPPED, True)
    assert next(let_go(small.block(), LinuxHost())).endswith(f": {left.pid}")
    assert left.status() != psutil.STATUS_STOPPED
