"""The parts of a run's context: put together without a look at a disk, opened late, and one policy for a bad store."""

import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NoReturn, cast

import pytest
from pydantic import ValidationError

from blocks.store import EvidenceStore
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.retention import NOTHING
from tasks.host.container.docker_engine import Engine
from tasks.incident.paths import CordonFiles, IncidentDirectory
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.context import Adapters, Policy, RunContext, RunInfo
from tasks.runtime.store_access import StoreAccess
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def refused(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a constructor touches a disk")


@pytest.mark.parametrize("policy", ["graceful", "kill"])
def test_what_nobody_knows_is_ended_only_if_asked_for_by_name(policy: Policy) -> None:
    """Policy kill ends suspects unasked, and never what is not known."""
    run = RunInfo("run", policy=policy)
    assert (run.includes_suspects, run.ends_unknown) == (policy == "kill", False)
    assert (replace(run, unknown="end").ends_unknown, replace(run, unknown="name").ends_unknown) == (True, False)


def test_no_constructor_touches_a_disk(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    with case_of(small.block()) as opened:
        for act in ("open", "stat", "lstat", "mkdir", "scandir", "listdir", "readlink"):
            monkeypatch.setattr(os, act, refused)
        nowhere = Path("/nowhere")
        at = IncidentDirectory(nowhere, 0, True, False, nowhere, None, PurePath(nowhere))
        doors = Adapters(opened.adapters.host, opened.adapters.scheduler, refused)
        store = StoreAccess(SavedStore("none", {}), opened.log, dry_run=False)
        files = CordonFiles(nowhere, nowhere, nowhere, nowhere)
        made = RunContext(opened.incident, opened.workload, RunInfo("run"), at, files, opened.log, doors, store, 0)
        monkeypatch.undo()
    assert made.state.frozen.read() == []


def test_the_engine_is_connected_to_on_first_use_and_closed_once(small: SmallWorkload) -> None:
    acts = list[str]()

    class Connected:
        """Tells what is done with it."""

        def close(self) -> None:
            """End it."""
            acts.append("closed")

    def connect() -> Engine:
        acts.append("connected")
        return cast("Engine", Connected())

    with case_of(small.block()) as opened:
        doors = Adapters(opened.adapters.host, opened.adapters.scheduler, connect)
    doors.close()
    assert acts == []
    assert doors.engine is doors.engine
    doors.close()
    doors.close()
    assert acts == ["connected", "closed"]


def test_a_store_that_cannot_be_used_fails_its_step_and_costs_the_record_nothing(tmp_path: Path) -> None:
    log = CustodyLog(tmp_path / "log", {})
    store = StoreAccess(SavedStore("gone", {"bucket": "No bucket"}), log, dry_run=False)
    told: list[Any] = [store.label, store.url("key"), store.retention, store.latest_policy, store.has_promoter]
    assert told == ["store block gone", "", NOTHING, "never", False]
    assert (store.signing_key, store.signing_problem) == (None, "the store block cannot be used: ValidationError")
    for part in ("block", "evidence", "latest"):
        with pytest.raises(ValidationError):
            getattr(store, part)


def test_a_store_that_cannot_be_opened_is_named_as_it_will_be_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials at first: what a later run stores is stored where this one meant to."""
    log, saved = CustodyLog(tmp_path / "log", {}), SavedStore("house", {"folder": str(tmp_path)})
    whole = StoreAccess(saved, log, dry_run=False).label
    monkeypatch.setattr(EvidenceStore, "open", refused)
    assert StoreAccess(saved, log, dry_run=False).label == whole == str(tmp_path)
