"""A worker without the files of frames is what it was; with the key it sends one for a fleet's run that is due."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from tasks.custody.containment.identity import Identity
from tasks.fleet import frame
from tasks.prestart.journal import EarlyFreeze
from tasks.worker import evacuation_worker
from tasks.worker.early import Prepared
from tasks.worker.evacuation_worker import EvacuationWorker
from tests.unit.worker.test_frames import NOW


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FLEET_KEY", "FLEET_SIGNERS"):
        monkeypatch.setattr(evacuation_worker, name, tmp_path / name)
    return tmp_path


def prepared(flow: str, start: Any = NOW) -> Prepared:
    run = {"parameters": {}, "created": NOW.isoformat(), "expected_start_time": start.isoformat()}
    return Prepared(uuid4(), {"PREFECT_API_URL": "http://nowhere"}, {"flow": flow, "run": run}, time=lambda: NOW)


@pytest.mark.parametrize("known", [False, True])
def test_frames_are_heard_if_root_has_named_their_signers(files: Path, *, known: bool) -> None:
    if known:
        (files / "FLEET_SIGNERS").touch()
    worker = EvacuationWorker("p")
    assert (worker._frames is not None, worker._hints._framed is not None) == (known, known)


@pytest.mark.parametrize(
    ("flow", "key", "later", "sends"),
    [("fleet", True, 0, True), ("fleet", False, 0, False), ("evacuate", True, 0, False), ("fleet", True, 9, False)],
)
def test_a_frame_is_sent_for_a_fleets_run_that_is_due_where_the_key_is(  # noqa: PLR0913  what decides
    files: Path, monkeypatch: pytest.MonkeyPatch, flow: str, later: int, *, key: bool, sends: bool
) -> None:
    if key:
        (files / "FLEET_KEY").touch()
    sent = list[Any]()
    one = SimpleNamespace(send=lambda: sent.append("sent"), close=lambda: sent.append("closed"))
    monkeypatch.setattr(frame, "prepare", lambda *_: one)
    run, known, worker = FlowRun(flow_id=uuid4()), prepared(flow, NOW + timedelta(seconds=later)), EvacuationWorker("p")
    send = worker._learn(run, known)
    assert not sent, "nothing is sent before the claim"
    worker._freeze(run, known, send)
    assert sent == (["sent"] if sends else [])


def test_what_a_frame_has_frozen_goes_with_the_run_that_takes_it_over(files: Path) -> None:
    (files / "FLEET_SIGNERS").touch()
    worker, run = EvacuationWorker("p"), FlowRun(flow_id=uuid4())
    own, held = (EarlyFreeze(files / "early.json", (Identity(number, 1),)) for number in (1, 2))
    made = cast("Prepared", SimpleNamespace(facts={}, early=own, freeze=lambda: None))
    assert worker._frames
    worker._frames._held["FL", "gpu1"] = "run", held
    worker._freeze(run, made, None)
    assert made.early
    assert made.early.frozen == (Identity(2, 1), Identity(1, 1))
    made.early = None
    worker._freeze(run, made, None)
    assert made.early is None
    asyncio.run(worker.teardown(None, None, None))
