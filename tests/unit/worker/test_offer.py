"""What the worker has frozen is offered to a process that can fetch it; any other finds the lock free."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.custody.containment.identity import Identity
from tasks.incident.run_lock import owner, take_ownership
from tasks.prestart.journal import EarlyFreeze
from tasks.worker import early as module
from tasks.worker.early import Prepared


def prepared(folder: Path, **facts: Any) -> Prepared:
    lock = take_ownership(folder)
    assert lock is not None
    return Prepared(uuid4(), {}, facts, EarlyFreeze(folder / "early.json", (Identity(10**7, 5),), lock=lock))


@pytest.mark.parametrize(("command", "facts"), [("python -m prefect.engine", {}), ("flows.engine", {"no": object()})])
def test_a_process_that_fetches_nothing_finds_the_lock_free(tmp_path: Path, command: str, facts: Any) -> None:
    made = prepared(tmp_path, **facts)
    assert made.offer(command) == ""
    assert owner(tmp_path) == ""
    made.end()


def test_an_offer_that_nobody_took_ends_with_the_lock_free(tmp_path: Path) -> None:
    made = prepared(tmp_path)
    assert made.offer("'/opt/my env/bin/python' -m flows.engine").startswith("evacuation-run-")
    assert owner(tmp_path) == "evacuation"
    made.end()
    assert owner(tmp_path) == ""


@pytest.mark.parametrize("offered", [True, False])
def test_while_the_run_may_not_begin_an_evacuation_by_hand_can_take_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, offered: bool
) -> None:
    made = prepared(tmp_path)
    if offered:
        made.offer("python -m flows.engine")
    for _ in range(2):
        made.release("quick-fox")
    assert owner(tmp_path) == ""
    assert made.early, "what is frozen is not forgotten"
    assert caplog.text.count("quick-fox does not begin: its workload stays frozen") == 1
    made.end()


def test_what_fails_at_the_end_does_not_end_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = prepared(tmp_path)
    monkeypatch.setattr(module, "thaw_left", lambda _: 1 / 0)
    made.end()
    assert "may still be frozen" in caplog.text
    os.close(made.early.lock or 0) if made.early else None
