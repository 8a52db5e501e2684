"""What waits for a person: the form, its answers, and the run that is resumed. One real server; the runs are here."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow

from blocks.directory import DirectoryStore
from blocks.store import EvidenceStore
from flows.mirror import mirror
from flows.recover import recover
from tasks.custody.evidence.keys import begun_key
from tasks.custody.store.latest import LatestTransaction
from tasks.people import form as approve
from tests.support.holdings import FIRST, LOG, MODEL, SCORES, SECOND, THIRD, latest, overwrite, snapshot, turn_for
from tests.support.scenes import Scene
from tests.support.workloads import wait_until


class Asked:
    """A run of a deployment, as a worker would start it; between the starts a person answers over the API."""

    def __init__(self, flow: Flow[..., Any], **parameters: Any) -> None:
        """Start it."""
        self._flow = flow
        deployment = flow.to_deployment(f"t{uuid4().hex[:8]}")
        assert isinstance(deployment, RunnerDeployment)
        made = deployment.apply()
        assert isinstance(made, UUID)
        with get_client(sync_client=True) as client:
            self._id = client.create_flow_run_from_deployment(made, parameters=parameters).id

    def run(self) -> State:
        """From the top, as after each resume."""
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(self._id)
            with suppress(Pause):  # as a worker's engine does: the process ends
                run_flow(self._flow, flow_run=run, parameters=run.parameters, return_type="state")
            state = client.read_flow_run(self._id).state
            assert state
            return state

    def answer(self, **answer: str) -> int:
        """The status with which the server takes, or does not take, what was filled in."""
        with get_client(sync_client=True) as client:
            return client._client.post(f"/flow_runs/{self._id}/resume", json={"run_input": answer}).status_code

    @property
    def question(self) -> str:
        """What the form says."""
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(self._id).state
            assert state
            keys = state.state_details.run_input_keyset
            assert keys
            return client._client.get(f"/flow_runs/{self._id}/input/{keys['description']}").text


@pytest.fixture
def place(prefect: None, tmp_path: Path) -> tuple[str, DirectoryStore]:  # noqa: ARG001  a fixture cannot be marked
    """A saved store whose last promotion found two files in latest/ that its workload no longer has."""
    name = f"t{uuid4().hex[:12]}"
    EvidenceStore(folder=tmp_path).save(name)
    store = DirectoryStore(tmp_path)
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    overwrite(store, SCORES, "a person's")
    promoted(store, SECOND, "2")
    return name, store


def promoted(store: DirectoryStore, incident: str, content: str) -> None:
    turn_for(store, replace(snapshot(store, incident, model=content), policy="mirror", surplus=lambda _: {LOG, SCORES}))


@pytest.mark.whole
def test_a_mirror_deletes_what_was_shown_and_approved_and_nothing_else(place: tuple[str, DirectoryStore]) -> None:
    name, store = place
    run = Asked(mirror, store=name)
    assert run.run().name == "Suspended"
    assert "1 files will be deleted" in run.question
    assert LOG in run.question
    assert "20260102T030405Z/logs/train.log" in run.question
    before = latest(store)
    assert run.answer(decision="perhaps", by="Hanako") == 200  # not 201: the form refuses it
    assert run.answer(decision="approve") == 200
    assert run.answer(decision="approve", by="") == 200
    assert latest(store) == before
    assert run.answer(decision="approve", by="Hanako", why="moved elsewhere") == 201
    state = run.run()
    assert (state.type.value, state.name) == ("COMPLETED", "Mirrored"), state.message
    assert f"{SECOND}: Hanako approved: moved elsewhere; turn 3: 2 keep, 1 delete" in str(state.message)
    assert latest(store) == {MODEL: "2", SCORES: "a person's"}
    assert "Hanako approved: moved elsewhere" in LatestTransaction.read([store.read(begun_key(3))]).by


@pytest.mark.whole
def test_a_refusal_changes_nothing(place: tuple[str, DirectoryStore]) -> None:
    name, store = place
    run, before = Asked(mirror, store=name), latest(store)
    run.run()
    assert run.answer(decision="refuse", by="Taro", why="not today") == 201
    state = run.run()
    assert (state.name, state.message) == ("Declined", f"{SECOND}: Taro refused: not today; latest/ is as it was")
    assert latest(store) == before
    assert not store.head(begun_key(3))


def test_without_an_answer_in_time_the_run_fails_and_nothing_was_done(
    place: tuple[str, DirectoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, store = place
    monkeypatch.setattr(approve, "ASK_SECONDS", 1)
    run, before = Asked(mirror, store=name), latest(store)
    until = run.run().state_details.pause_timeout
    assert until
    wait_until(lambda: datetime.now(UTC) > until, what="the end of the time to answer")
    run.answer(decision="approve", by="Hanako")  # too late
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run._id).state.type.value == "FAILED"  # type: ignore[union-attr]
    assert latest(store) == before


@pytest.mark.whole
def test_an_approval_is_of_what_was_shown_a_changed_plan_is_asked_anew(place: tuple[str, DirectoryStore]) -> None:
    name, store = place
    run = Asked(mirror, store=name)
    run.run()
    assert run.answer(decision="approve", by="Hanako") == 201
    promoted(store, THIRD, "3")
    assert run.run().name == "Suspended"
    assert THIRD in run.question
    assert LOG in latest(store)


def test_a_guarded_promotion_leaves_nothing_to_delete(place: tuple[str, DirectoryStore]) -> None:
    name, store = place
    turn_for(store, snapshot(store, THIRD, model="3"))
    state = Asked(mirror, store=name).run()
    assert (state.name, "nothing to delete" in str(state.message)) == ("Mirrored", True)


def test_outside_a_deployment_nobody_could_answer(place: tuple[str, DirectoryStore]) -> None:
    state = mirror(place[0], return_state=True)
    assert state.is_failed()
    assert "a run of a deployment" in str(state.message)


@pytest.mark.whole
def test_a_recovery_that_was_asked_for_touches_nothing_before_the_answer_and_is_the_same_incident_after(
    scene: Scene,
) -> None:
    assert scene.evacuate().name == "Verified"
    run = Asked(recover, workload=scene.name, store=scene.name, ask_first=True)
    assert run.run().name == "Suspended"
    assert f"recovered from {scene.home.name} (VERIFIED)" in run.question
    assert not (scene.home / "record/002").exists()
    assert run.answer(decision="approve", by="Hanako") == 201
    state = run.run()
    assert scene.home.name in str(state.message)
    assert (scene.home / "record/002/closing.json").exists()
    assert "Hanako approved" in (scene.home / "custody.jsonl").read_text()


@pytest.mark.soak
def test_a_recovery_that_was_refused_leaves_the_workload_contained(scene: Scene) -> None:
    assert scene.evacuate().name == "Verified"
    run = Asked(recover, workload=scene.name, store=scene.name, ask_first=True)
    run.run()
    assert run.answer(decision="refuse", by="Taro") == 201
    assert run.run().name == "Declined"
    assert not (scene.home / "record/002").exists()
    assert scene.small.living() == []
