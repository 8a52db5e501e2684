"""A worker that hears of a run by an event freezes before it starts the process; what fails there is made good."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Scheduled

from tasks.incident.layout import EARLY
from tasks.incident.run_lock import owner, take_ownership
from tasks.worker import evacuation_worker, known_runs
from tests.support.played import ENGINE, Played, play
from tests.support.scenes import Scene
from tests.support.workloads import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""Prefect leaves connections to the collector: of a run whose process ended at once, and of a cancelled worker."""


@pytest.mark.whole
def test_the_workload_stands_after_three_questions_and_the_run_asks_none_of_them_again(scene: Scene) -> None:
    scene.small.start_all()
    with play(scene) as played:
        played.await_proof()
        before = len(played.asked())
        run = played.trigger()
        wait_until(played.stands, what="the freeze")
        asked = played.asked()[before:]
        wait_until(lambda: owner(scene.block.evidence), what="the run")
        told = played.ended(run)
    assert told.startswith("Verified"), told
    poll = "POST /work_pools/pNAME/get_scheduled_flow_runs"
    block = "GET /block_types/slug/workload/block_documents/name/NAME"
    polls = next(at for at, each in enumerate(asked) if each != poll)
    assert polls, "it was asked for; on a busy machine more than once, for its event may be there before it can be read"
    assert sorted(asked[polls : polls + 2]) == [block, "POST /flow_runs/ID/set_state"], asked
    assert scene.small.living() == []
    assert not (scene.block.evidence / EARLY).exists()
    postmortem = (scene.home / "record/001/postmortem.md").read_text()
    assert "/ frozen before Prefect was started:" in postmortem


@pytest.mark.whole
@pytest.mark.parametrize(
    "command", ["/no/such/program -m flows.engine", pytest.param("false flows.engine", marks=pytest.mark.soak), "false"]
)
def test_a_run_that_never_starts_leaves_nothing_frozen(scene: Scene, command: str) -> None:
    scene.small.start_all()
    with play(scene, command) as played:
        assert played.ended(played.trigger()).startswith("Crashed")
        wait_until(lambda: not owner(scene.block.evidence), what="the release of the lock")
        wait_until(lambda: not (scene.block.evidence / EARLY).exists(), what="the thaw")
        assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}
        free = take_ownership(scene.block.evidence)
    assert free is not None


@pytest.mark.soak
@pytest.mark.parametrize("moment", ["GET /deployments/", "/labels"])
def test_a_server_that_dies_between_freeze_and_start_thaws_nothing_and_the_run_goes_on_with_it(
    scene: Scene, moment: str
) -> None:
    scene.small.start_all()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), play(scene) as played:
        played.await_proof()
        played.proxy.dies_at = moment
        run = played.trigger()
        wait_until(lambda: played.proxy.dead, what="the death of the server")
        wait_until(lambda: played.proxy.refused > 5, what="some questions to a dead server")
        assert played.stands()
        wait_until(lambda: not owner(scene.block.evidence), what="the release of the lock for an evacuation by hand")
        played.proxy.dies_at = ""
        told = played.ended(run)
    assert told.startswith("Verified"), told
    assert scene.small.living() == []


@pytest.mark.soak
def test_a_run_that_is_refused_lets_the_workload_go_on(scene: Scene) -> None:
    scene.small.start_all()
    with play(scene) as played:
        told = played.ended(played.trigger(parameters={"store": "no-such-store"}))
        assert told.startswith("Failed"), told
        wait_until(lambda: not (scene.block.evidence / EARLY).exists(), what="the thaw")
        assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}


@pytest.mark.soak
def test_a_run_of_another_command_is_as_ever(scene: Scene) -> None:
    scene.small.start_all()
    with play(scene) as played:
        other = {"command": ENGINE.replace("flows", "prefect")}
        told = played.ended(played.trigger(job_variables=other))
        assert told.startswith("Verified"), told


def event(played: Played, run: UUID) -> dict[str, Any]:
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    with get_client(sync_client=True) as client:
        queue = client.read_work_queue_by_name("here", work_pool_name=f"p{played.scene.name}")
    related = {"prefect.resource.id": f"prefect.work-queue.{queue.id}", "prefect.resource.role": "work-queue"}
    known = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": "prefect.flow-run.Scheduled"}
    return {**known, "resource": resource, "related": [related]}


@pytest.mark.whole
def test_forged_events_cost_two_questions_and_freeze_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.small.start_all()
    with play(scene) as played:
        played.await_proof()
        later = played.trigger(state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)))
        monkeypatch.setattr(evacuation_worker, "_SPACING_SECONDS", 3.0)  # events that trickle in count as one flood
        before = len(played.asked())
        forged = [event(played, run) for run in (uuid4(), *[later.id] * 20)]
        httpx.post(f"{PREFECT_API_URL.value()}/events", json=forged).raise_for_status()
        wait_until(lambda: len(played.asked()) > before and not played.worker._tries_left, what="the questions")
        played.await_proof()
        assert len(played.asked()) - before <= 4
        assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}


def lost_hint(played: Played) -> None:
    """As if the event had been lost: nobody tells the worker."""
    played.worker._hints._hinted = lambda _: None
    played.worker._due = time.monotonic() + 3


def cut(played: Played) -> None:
    """As if the server had died and come back."""
    played.proxy.cut()
    wait_until(lambda: not played.worker._hints.proven, what="the loss")


def nothing_wrong(_: Played) -> None: ...


@pytest.mark.parametrize(
    ("way", "websockets"),
    [
        (nothing_wrong, False),
        pytest.param(lost_hint, True, marks=pytest.mark.soak),
        pytest.param(cut, True, marks=pytest.mark.soak),
    ],
    ids=["no websockets", "lost", "cut"],
)
def test_a_run_that_no_event_tells_of_is_frozen_all_the_same(
    scene: Scene,
    way: Callable[[Played], None],
    websockets: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene.small.start_all()
    monkeypatch.setattr(known_runs, "command_to_string", lambda _: "sh -c 'sleep 2' flows.engine")
    with play(scene, websockets=websockets) as played:
        if websockets:
            played.await_proof()
        way(played)
        played.trigger()
        wait_until(played.stands, what="the freeze")
        wait_until(lambda: not played.stands(), what="the thaw")
        if way is cut:
            played.await_proof()
        assert played.worker._hints.proven is websockets
