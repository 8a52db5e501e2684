"""§2 before anything is imported: the start of a run freezes the workload, and lets it go if the run is refused."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Pending
from prefect.types.entrypoint import EntrypointType

from flows.evacuate import evacuate
from flows.recover import recover
from tasks.custody.containment.identity import Identity
from tasks.host.process.table import start_of, ticks
from tasks.incident.layout import EARLY
from tasks.incident.run_lock import take_ownership
from tasks.prestart.freeze import freeze_early
from tasks.prestart.journal import EarlyFreeze, read_early, thaw_again
from tasks.prestart.known_run import known_run
from tasks.prestart.prefect_http import _credentials
from tests.support.scenes import Scene
from tests.support.workloads import wait_until


def environment(scene: Scene, flow: Any = evacuate, **parameters: Any) -> dict[str, str]:
    """What a worker gives to the process that it starts for a run."""
    deployment = flow.to_deployment(scene.name, entrypoint_type=EntrypointType.MODULE_PATH).apply()
    given = {"workload": scene.name, "store": scene.name} | parameters
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment, parameters=given, state=Pending())
    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT__FLOW_RUN_ID": str(run.id)}


def frozen_early(told: dict[str, str]) -> EarlyFreeze | None:
    """What the start of a run that the worker has handed nothing to freezes."""
    with known_run(told, {}) as run:
        return freeze_early(run)


def run(told: dict[str, str]) -> str:
    """Start the engine as a worker does; the name of the state that the run ended in."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.engine"], env={**os.environ, **told}, capture_output=True, text=True, check=False
    )
    with get_client(sync_client=True) as client:
        ended = client.read_flow_run(UUID(told["PREFECT__FLOW_RUN_ID"]))
    assert ended.state, done.stderr
    return f"{ended.state.name} {ended.state.message}"


def full(*_: object, **__: object) -> None:
    raise OSError("no space left")


def states(scene: Scene) -> set[str]:
    return {process.status() for process in scene.small.living()}


def test_the_workload_stands_before_the_run_has_begun_and_the_record_says_since_when(scene: Scene) -> None:
    scene.small.start_all()
    told = run(environment(scene))
    assert told.startswith("Verified"), told
    assert scene.small.living() == []
    assert not (scene.block.evidence / EARLY).exists()
    entries = [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]
    opened = next(entry for entry in entries if entry["action"] == "run opened")
    frozen = [datetime.fromisoformat(entry["at"]) for entry in entries if entry["action"] == "frozen"]
    assert len(frozen) == 4
    assert datetime.fromisoformat(opened["triggered"]) < min(frozen) < max(frozen)
    assert max(frozen) < datetime.fromisoformat(opened["utc"])
    postmortem = (scene.home / "record/001/postmortem.md").read_text()
    order = ["検知 / detected", "/ triggered:", "/ frozen before Prefect was started:", "/ evacuation opened:"]
    assert [postmortem.index(each) for each in order] == sorted(postmortem.index(each) for each in order)


@pytest.mark.whole
def test_a_run_that_is_refused_has_touched_nothing(scene: Scene) -> None:
    scene.small.start_all()
    told = run(environment(scene, store="no-such-store"))
    assert told.startswith("Failed"), told
    assert "no-such-store" in told
    assert len(scene.small.living()) == 4
    assert psutil.STATUS_STOPPED not in states(scene)
    assert scene.small.healthy()
    assert not (scene.block.evidence / EARLY).exists()


@pytest.mark.whole
def test_an_alarm_that_is_too_old_freezes_nothing_and_says_how_to_evacuate(scene: Scene) -> None:
    scene.small.start_all()
    old = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    told = run(environment(scene, alarm={"event": "training.failed", "occurred": old}))
    assert told.startswith("Stale "), told
    assert f"prefect deployment run evacuate/evacuate-{scene.name} --watch" in told
    assert psutil.STATUS_STOPPED not in states(scene)
    assert len(scene.small.living()) == 4
    assert not scene.incidents
    assert not (scene.block.evidence / EARLY).exists()


@pytest.mark.whole
def test_a_run_that_is_refused_says_what_its_start_has_frozen_and_else_that_nothing_was_touched(scene: Scene) -> None:
    assert "Nothing was touched" in run(environment(scene, store="nowhere"))
    scene.small.start_all()
    cases: dict[str, dict[str, Any]] = {"'nowhere'": {"store": "nowhere"}, "issued before": {"new_incident": True}}
    for reason, parameters in cases.items():
        told = run(environment(scene, **parameters))
        assert reason in told, told
        assert "4 processes stand frozen until this run has ended" in told, told
        assert "Nothing was touched" not in told
        assert psutil.STATUS_STOPPED not in states(scene)
    assert len(scene.small.living()) == 4


def test_what_is_frozen_early_is_let_go_unless_the_run_takes_it_over(scene: Scene) -> None:
    scene.small.start_all()
    early = frozen_early(environment(scene))
    assert early
    wait_until(lambda: states(scene) == {psutil.STATUS_STOPPED}, what="the stop of all")
    early.path.rename(early.path.with_suffix(".taken"))
    thaw_again(early)
    assert states(scene) == {psutil.STATUS_STOPPED}
    early.path.with_suffix(".taken").rename(early.path)
    thaw_again(early)
    assert psutil.STATUS_STOPPED not in states(scene)


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "way",
    [
        "dry run",
        "another flow",
        "another host",
        "a run at work",
        "no server",
        "another account's link",
        "an unknown incident",
    ],
)
def test_it_keeps_its_hands_off(scene: Scene, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    scene.small.start_all()
    owner = None
    told = environment(scene, dry_run=way == "dry run")
    if way == "another flow":
        told = environment(scene, recover)
    elif way == "an unknown incident":
        told = environment(scene, incident_id="IR-20200101T000000Z")
    elif way == "another host":
        scene.save(workload=scene.block.model_copy(update={"host": "elsewhere"}))
    elif way == "a run at work":
        scene.block.evidence.mkdir()
        owner = take_ownership(scene.block.evidence)
    elif way == "no server":
        told["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    elif way == "another account's link":
        if os.geteuid() != 0:
            pytest.skip("only root can make a link of somebody else")
        scene.block.evidence.symlink_to(scene.small.root)
        os.chown(scene.block.evidence, 65534, 65534, follow_symlinks=False)
    assert frozen_early(told) is None
    assert psutil.STATUS_STOPPED not in states(scene)
    said = capfd.readouterr().err
    assert ("not frozen before the start of the run: " in said) is (way not in {"dry run", "another flow"})
    if owner is not None:
        os.close(owner)


def test_a_disk_that_takes_nothing_keeps_nobody_from_being_frozen_and_let_go_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.small.start_all()
    told = environment(scene)
    monkeypatch.setattr("tasks.prestart.journal.write_whole", full)
    early = frozen_early(told)
    assert early
    assert set(read_early(early.path).frozen) == set(early.frozen), "the run learns of them in this same process"
    wait_until(lambda: states(scene) == {psutil.STATUS_STOPPED}, what="the stop of all")
    thaw_again(early)
    assert psutil.STATUS_STOPPED not in states(scene)
    assert read_early(early.path).frozen == {}


def test_what_a_recovery_has_brought_back_is_the_workload(scene: Scene) -> None:
    scene.small.start_all()
    api = next(process for process in scene.small.living() if "uvicorn" in process.cmdline())
    home = scene.block.evidence / "IR-20260102T030405Z"
    home.mkdir(parents=True)
    identity = Identity(api.pid, start_of(api.pid))
    (home / "recovered.json").write_text(json.dumps([{"pid": identity.pid, "start": identity.start}]))
    early = frozen_early(environment(scene))
    assert early
    assert identity in early.frozen
    assert len(early.frozen) == 4
    assert api.status() == psutil.STATUS_STOPPED
    assert all(who.start < ticks() for who in early.frozen)


def test_a_server_with_a_password_is_given_it() -> None:
    assert _credentials({"PREFECT_API_KEY": "k"}) == {"Authorization": "Bearer k"}
    assert _credentials({"PREFECT_API_AUTH_STRING": "admin:pass"}) == {"Authorization": "Basic YWRtaW46cGFzcw=="}
    assert _credentials({}) == {}
