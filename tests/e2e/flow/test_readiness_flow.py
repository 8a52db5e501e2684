"""The doctor as a deployment: its state, its page, and what it remembers for the next night."""

from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.events import Event

from flows.readiness import readiness
from tasks.people import announce
from tasks.readiness import store, tell
from tasks.readiness.examine import PARTS, examine
from tests.support.scenes import Scene


@pytest.mark.whole
def test_a_change_for_the_worse_is_told_once_and_each_night_is_drawn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "kernel", lambda: {"state": "ok", "synchronised": True})
    monkeypatch.setattr("flows.readiness.examine", lambda patient: examine(patient, {"store": PARTS["store"]}))
    told = list[Any]()
    monkeypatch.setattr(announce, "emit_event", lambda *about, **more: told.append((about, more)))
    runs = list[Any]()
    monkeypatch.setattr(tell, "history", lambda client, _: [client.read_flow_run(each) for each in runs])
    states = []
    for bucket in (scene.store_block.bucket, scene.store_block.bucket, "nosuchbucket"):
        scene.save(store=scene.store_block.model_copy(update={"bucket": bucket}))
        states.append(readiness(scene.name, scene.name, return_state=True))
        runs.append(states[-1].state_details.flow_run_id)
    assert [state.name for state in states] == ["Degraded", "Degraded", "NotReady"]
    assert "store/signature" in str(states[0].message)
    assert [more["payload"]["worse"] for _, more in told] == [
        ("store/signature",),
        ("store/canary", "store/promoter"),
    ], told
    (event, about), _ = told[1]
    assert event == tell.EVENT
    assert about["prefect.resource.id"] == f"prefect.flow-run.{runs[2]}"
    assert about["prefect.state-name"] == "NotReady"
    Event(event=event, resource=about)
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"ready-{scene.name}"]))
        pages = [str(each.data) for each in client.read_artifacts(artifact_filter=wanted)]
        kept = client.read_flow_run(UUID(str(runs[2]))).labels
    assert len(pages) == 3
    assert any("NoSuchBucket" in page and "·○" in page for page in pages)
    assert kept["evacuation.readiness.store/canary"] == "fatal"
