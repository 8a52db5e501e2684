"""The same incident again, after the world or the store has changed: nothing stale is believed, nothing is lost."""

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from blocks.store import EvidenceStore
from blocks.workload import Workload
from flows.evacuate import evacuate
from flows.recover import recover
from tasks.acquisition.collector import Collector
from tasks.cli.status import status
from tasks.collectors.attempt import attempt
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import MANIFEST
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.host.host import LinuxHost
from tasks.incident.run_lock import take_ownership
from tests.support.scenes import Scene, steps_of
from tests.support.workloads import wait_until

SECRET = "cAnArY of the environment 7f1d"


@pytest.mark.soak
def test_logs_that_new_life_wrote_and_those_of_a_corrected_pattern_are_collected_by_the_next_run(scene: Scene) -> None:
    scene.small.start_all()
    (scene.small.root / "more").mkdir()
    (scene.small.root / "more/gpu-token.txt").write_text("hot\n")
    scene.evacuate()
    assert not list((scene.home / "evidence").rglob("gpu-token.txt")), (
        "by its name it may hold a secret, and nobody has named it"
    )
    scene.lose_the_guard()
    scene.small.start_all()
    (scene.small.root / "logs/train-20260101_000001.log").write_text("iteration 2\n")
    scene.save(workload=Workload(**dict(scene.block) | {"logs": ["logs/*.log", "more/*.txt"]}))
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    assert scene.small.living() == []
    assert (scene.home / "evidence.2/logs/train-20260101_000001.log").read_text() == "iteration 2\n"
    stored = [each.key for each in scene.store.list(f"incidents/{scene.home.name}/evidence.2/")]
    assert [key for key in stored if key.endswith("more/gpu-token.txt")], stored


@pytest.mark.soak
def test_the_first_look_at_the_processes_survives_a_second_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.small.start_all()
    monkeypatch.setattr("tasks.evidence.seal._files", lambda *_: (_ for _ in ()).throw(OSError("no seal in this run")))
    assert scene.evacuate().name == "Unverified"
    monkeypatch.undo()
    scene.lose_the_guard()
    scene.small.start_all()
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    looks = [json.loads(path.read_bytes()) for path in scene.home.glob("evidence/**/tree.json")]
    described = [process["command"] for look in looks for process in look if "command" in process]
    assert len(looks) == 2
    assert len(described) >= 8


@pytest.mark.whole
def test_a_look_that_was_lost_stays_lost_and_latest_as_it_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.small.start_all()

    def broken(what: Collector, *rest: Any, **options: Any) -> tuple[list[Any], Loss | None]:
        lost = what.name in {"processes", "stacks"}
        return ([], Loss(what.name, Outcome.FAILED, "out of luck")) if lost else attempt(what, *rest, **options)

    monkeypatch.setattr("tasks.evidence.collect.attempt", broken)
    state = scene.evacuate()
    assert state.name == "Partial", state.message
    monkeypatch.undo()
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Partial", state.message
    assert "processes" in str(state.message)
    assert "nothing of it stands frozen any more" in str(state.message)
    assert steps_of(state)["§4 collect tree"] == "Cached"
    assert not (scene.home / "evidence.2").exists()
    assert scene.store.head("latest/models/model_builtin.joblib") is None


@pytest.mark.soak
def test_a_file_that_changed_between_two_runs_goes_into_a_snapshot_of_its_own(scene: Scene) -> None:
    outside = scene.small.root / "logs/link.log"
    outside.symlink_to("/etc/hostname")
    assert scene.evacuate().name == "Partial"
    outside.unlink()
    log = scene.small.root / "logs/train-20260101_000000.log"
    log.write_text("iteration 1\niteration 2\n")
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    stamp = scene.home.name.removeprefix("IR-")
    first, second = (scene.store.head(f"snapshots/{stamp}{n}/logs/{log.name}") for n in ("", ".2"))
    latest = scene.store.head(f"latest/logs/{log.name}")
    assert first
    assert second
    assert latest
    assert first.sha256 != second.sha256 == latest.sha256


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_an_object_that_the_store_lost_is_sent_again_and_another_store_gets_everything(
    scene: Scene, tmp_path: Path, times: int
) -> None:
    disk = tmp_path / "other disk"
    disk.mkdir()
    scene.save(store=EvidenceStore(folder=disk))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert (disk / "incidents" / scene.home.name / "evidence" / MANIFEST).exists()
    lost = disk / "incidents" / scene.home.name / "evidence/mem.txt"
    for _ in range(times):
        lost.unlink()
        state = scene.evacuate(incident_id=scene.home.name)
        assert state.name == "Unverified"
        assert "mem.txt" in str(state.message)
        state = scene.evacuate(incident_id=scene.home.name)
        assert state.name == "Verified", state.message
        assert lost.exists()

    (tmp_path / "other").mkdir()
    scene.save(store=EvidenceStore(folder=tmp_path / "other"))
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    assert (tmp_path / "other/incidents" / scene.home.name / "evidence" / MANIFEST).exists()


@pytest.mark.whole
def test_a_record_that_the_store_has_not_got_is_sent_by_the_next_run_without_an_id(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as lost:
        lost.setattr("tasks.record.write.claim", lambda _: (_ for _ in ()).throw(OSError("no route")))
        assert scene.evacuate().name == "Unverified"
    assert json.loads((scene.home / "record/001/closing.json").read_bytes())["verdict"] == "VERIFIED"
    assert any("carry the incident on" in line for line in status(scene.block, LinuxHost(root=scene.block.root)))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert scene.store.head(f"incidents/{scene.home.name}/record/001/closing.json")
    assert scene.evacuate().name == "Verified"
    assert len(scene.incidents) == 2


@pytest.mark.soak
def test_an_old_incident_run_again_does_not_bring_the_past_back(scene: Scene) -> None:
    scene.evacuate()
    old = scene.home.name
    model = scene.small.root / "models/model_builtin.joblib"
    model.write_bytes(b"\x80\x04N.")
    scene.evacuate()
    assert len(scene.incidents) == 2
    newer = scene.store.head("latest/models/model_builtin.joblib")
    state = scene.evacuate(incident_id=old, recover=False)
    assert state.name == "Verified", state.message
    assert scene.store.head("latest/models/model_builtin.joblib") == newer
    assert steps_of(state)["§5 promote latest/"] == "Cached"


@pytest.mark.whole
def test_a_rehearsal_a_damaged_file_of_the_open_incident_and_a_hostile_summary_keep_no_evacuation_out(
    scene: Scene,
) -> None:
    scene.save(workload=scene.small.block(incident_suffix="gpu1"))
    scene.block.evidence.mkdir()
    (scene.block.evidence / "open.json").write_text("")
    (scene.small.root / "artifacts/summary_deep.json").write_text("[" * 200_000)
    rehearsal = take_ownership(scene.block.evidence, dry_run=True)
    assert rehearsal is not None
    scene.small.start_all()
    state = scene.evacuate()
    os.close(rehearsal)
    assert state.name == "Verified", state.message
    assert scene.small.living() == []
    assert (scene.home / "record/001/closing.json").exists()
    assert scene.home.name.endswith("Z-gpu1"), "the suffix of the workload"


def ended(run: FlowRun) -> State:
    """The state in which an evacuation ends that has its run already."""
    state: Any = run_flow(evacuate, flow_run=run, parameters=run.parameters, return_type="state")
    assert isinstance(state, State)
    return state


def again_by_retry(_: Scene, run: FlowRun) -> State:
    """What Retry in Prefect's UI does: the same flow run once more."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
        again = client.read_flow_run(run.id)
    return ended(again)


def again_by_its_id(scene: Scene, _: FlowRun) -> State:
    return scene.evacuate(incident_id=scene.home.name)


def again_for_a_new_incident(scene: Scene, _: FlowRun) -> State:
    return scene.evacuate()


@pytest.mark.whole
@pytest.mark.parametrize("again", [pytest.param(again_by_its_id, marks=pytest.mark.soak), again_for_a_new_incident])
def test_an_evacuation_after_a_recovery_contains_what_that_has_started(
    scene: Scene, again: Callable[[Scene, FlowRun], State]
) -> None:
    """It ended Verified, "the workload is contained", of an API that answered, with a free lock and no guard.

    The API came back without its environment, and its output went to the folder of the old incident.
    """
    scene.small.start(scene.small.api_command, ONLY_THERE=SECRET)
    wait_until(scene.small.healthy, what="the API's answer")
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(evacuate, parameters={"workload": scene.name, "store": scene.name})
    state = ended(run)
    assert state.name == "Verified", state.message
    state = recover(scene.name, scene.name, return_state=True)
    assert state.name == "Recovered", state.message
    (api,) = scene.small.living()
    assert api.environ()["ONLY_THERE"] == SECRET
    told = {path for path in scene.home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}
    assert told == {scene.home / "starts.json"}
    assert (scene.home / "starts.json").stat().st_mode & 0o777 == 0o600
    log = Path(f"/proc/{api.pid}/fd/2").readlink()
    log.write_text("what the API said\n")
    assert log.match(f"{scene.small.root}/logs/api-restart-*.log")
    assert not (scene.home / "api-restart.log").exists()
    retried = again_by_retry(scene, run)
    assert (retried.name, retried.type.value) == ("Finished", "COMPLETED"), retried.message
    assert f"prefect deployment run evacuate/evacuate-{scene.name} --watch" in str(retried.message)
    assert scene.small.healthy(), "a retry of what is finished touches nothing"
    state = again(scene, run)
    assert state.name == "Verified", state.message
    assert "the workload is contained" in str(state.message)
    assert scene.small.living() == []
    assert LinuxHost().refuses(scene.block.lock)
    assert LinuxHost().guard(scene.block.evidence / "cordon.json")
    assert len(scene.incidents) == 1 + (again is again_for_a_new_incident)
    assert [*scene.incidents[-1].rglob(f"logs/{log.name}")], "the log of the API that was recovered is evidence"
    state = recover(scene.name, scene.name, return_state=True)
    assert state.name == "Recovered", state.message


@pytest.mark.soak
def test_a_claim_of_somebody_else_can_be_left_behind(scene: Scene) -> None:
    taken = "IR-20260303T000000Z"
    claim = canonical({"incident": taken, "host": "gpu1", "workload": "another"})
    scene.store.create(f"incidents/{taken}/claim.json", claim, digest_bytes(claim))
    scene.small.start_all()
    state = scene.evacuate(incident_id=taken)
    assert state.name == "Unverified"
    assert "incident_suffix" in str(state.message)
    assert scene.small.living() == []
    assert [each.key for each in scene.store.list(f"incidents/{taken}/")] == [f"incidents/{taken}/claim.json"]
    scene.save(workload=scene.small.block(incident_suffix="gpu2"))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    own = next(home.name for home in scene.incidents if home.name.endswith("-gpu2"))
    look = f"evidence/attempt-{taken}/evidence/ps_top.txt"
    assert (
        scene.store.read(f"incidents/{own}/{look}")
        == (scene.block.evidence / taken / "evidence/ps_top.txt").read_bytes()
    )
    assert f"attempt-{taken}/" in scene.store.read(f"incidents/{own}/record/001/verdict.json").decode()


@pytest.mark.soak
def test_the_api_gets_nothing_of_our_environment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-ours")
    scene.save(workload=scene.small.block(api_environment={"MODEL_PATH": "models/model_builtin.joblib"}))
    state = scene.evacuate(recover=True)
    assert state.name == "Verified", state.message
    (api,) = scene.small.living()
    assert "canary-of-ours" not in api.environ().values()
    assert api.environ()["MODEL_PATH"] == "models/model_builtin.joblib"


@pytest.mark.whole
def test_a_stranger_on_the_port_is_not_contained_not_recovered_and_left_alone(scene: Scene) -> None:
    server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(scene.small.port)]
    stranger = subprocess.Popen(server, cwd="/", stderr=subprocess.DEVNULL)
    try:
        wait_until(scene.small.healthy, what="the stranger")
        state = scene.evacuate(recover=True)
        assert state.name == "NotContained"
        told = str(state.message)
        assert f"{stranger.pid}: " in told
        assert f"listens on the API's port {scene.small.port}" in told
        assert "The workload is contained" not in told
        assert stranger.poll() is None
        assert scene.small.living() == []
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.soak
def test_an_api_command_that_does_not_exist_leaves_the_lock_held(scene: Scene) -> None:
    scene.save(workload=scene.small.block(api_command=["venv/bin/nothing"]))
    assert scene.evacuate(recover=True).name == "NotRecovered"
    assert subprocess.run(["flock", "-n", "-E", "75", str(scene.block.lock), "true"], check=False).returncode == 75


@pytest.mark.soak
def test_a_failed_recovery_ends_the_children_too(scene: Scene) -> None:
    command = ["bash", "-c", f"{' '.join(scene.small.api_command[:-1])} 1{scene.small.port} & sleep 600"]
    scene.save(workload=scene.small.block(api_command=command, recovery_seconds=1))
    assert scene.evacuate(recover=True).name == "NotRecovered"
    assert scene.small.living() == []


@pytest.mark.soak
def test_an_alarms_run_that_ended_unverified_is_proven_by_its_retry_and_not_joined(scene: Scene) -> None:
    """It turned green as Joined, with nothing stored."""
    good = scene.store_block
    scene.save(store=good.model_copy(update={"bucket": "there-is-none"}))
    alarm = {"event": "training.failed", "occurred": datetime.now(UTC).isoformat()}
    given = {"workload": scene.name, "store": scene.name, "alarm": alarm}
    scene.small.start_all()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(evacuate, parameters=given)
    assert ended(run).name == "Unverified"
    scene.save(store=good)
    again = again_by_retry(scene, run)
    assert again.name == "Verified", again.message
    assert list(scene.store.list(f"incidents/{scene.home.name}/record/002/"))
    over = again_by_retry(scene, run)
    assert (over.name, over.type.value) == ("Finished", "COMPLETED"), over.message


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("moment", ["tasks.models.inspect._second_look", "tasks.evidence.seal._files"])
@pytest.mark.parametrize(
    "name",
    [
        "models/model_builtin.joblib",
        "weights/model.pkl",
        "artifacts/cv_results_builtin.csv",
        "features/store.bin",
        "logs/more.log",
        "notes/read me.md",
    ],
)
def test_a_result_that_was_written_after_it_was_taken_is_named_and_taken_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, moment: str, name: str
) -> None:
    """The final Verified had an old copy, and no word of it."""
    (path := scene.small.root / name).parent.mkdir(exist_ok=True)
    before, whole = pickle.dumps([1]), pickle.dumps([*range(9)])
    path.write_bytes(before)
    scene.save(workload=scene.small.block(folders=[path.parent.name] if path.parent.name != "notes" else []))
    module, _, function = moment.rpartition(".")
    real = getattr(import_module(module), function)
    monkeypatch.setattr(moment, lambda *args, **options: (path.write_bytes(whole), real(*args, **options))[1])
    state = scene.evacuate()
    assert f"採取後に変更: {name}; the store has an older copy" in str(state.message)
    monkeypatch.undo()
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    assert "採取後に変更" not in str(state.message)
    assert (scene.home / "evidence.2" / name.replace(" ", "%20")).read_bytes() == whole
    state = scene.evacuate(incident_id=scene.home.name)
    assert not (scene.home / "evidence.3").exists()
    assert {steps_of(state)[f"§4 collect {each}"] for each in ("models", "logs", "code", "folders")} == {"Cached"}


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["features/store.bin", "logs/more.log", "notes/read me.md"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
def test_what_came_or_was_written_between_two_runs_is_taken_by_the_second(
    scene: Scene, name: str, *, is_new: bool
) -> None:
    """Nobody listens then: Verified, and the store without it, or with an old copy."""
    for folder in ("features", "notes"):
        (scene.small.root / folder).mkdir()
    path = scene.small.root / name
    if not is_new:
        path.write_bytes(pickle.dumps([1]))
    (scene.small.root / "logs/token.txt").write_text("withheld by its name, and nothing new")
    scene.save(workload=scene.small.block(folders=["features"]))
    assert scene.evacuate().name == "Verified"
    state = scene.evacuate(incident_id=scene.home.name)
    assert {steps_of(state)[f"§4 collect {each}"] for each in ("models", "logs", "code", "folders")} == {"Cached"}
    path.write_bytes(whole := pickle.dumps([*range(9)]))
    (scene.small.root / "models/other.pkl").write_bytes(whole)
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    notes = json.loads((scene.home / "record/003/verdict.json").read_bytes())["verdict"]["notes"]
    assert [each for each in notes if "was changed at " in each and "a process that is not known, between two" in each]
    assert '"models/"' in (scene.home / "evidence.2/not_taken.json").read_text(), "no pattern names the new one"
    assert "採取後に変更" not in str(state.message)
    assert (scene.home / "evidence.2" / name.replace(" ", "%20")).read_bytes() == whole
    state = scene.evacuate(incident_id=scene.home.name)
    assert not (scene.home / "evidence.3").exists()


@pytest.mark.soak
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("meanwhile", "name"),
    [
        ("rotated", "Verified"),
        ("rotated, and a training was caught", "Verified"),
        ("rotated, and a training ran", "Partial"),
        ("rotated after it was written to", "Partial"),
        ("written to, taken again, then rotated", "Verified"),
    ],
)
def test_a_log_that_is_rotated_after_it_was_sealed_as_it_last_was_is_no_loss(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, meanwhile: str, name: str
) -> None:
    """Each later run ended Partial over a file that the store had whole."""
    scene.small.start_all()
    log = scene.small.root / "logs/metrics.log"
    log.write_text("1\n")
    if "after it was written to" in meanwhile:
        module, real = import_module("flows.evacuate"), import_module("flows.evacuate").last_findings
        later = "1\n2\n"
        monkeypatch.setattr(module, "last_findings", lambda *each: (log.write_text(later), real(*each))[1])
    assert scene.evacuate().name in {"Verified", "NotContained"}
    monkeypatch.undo()
    if "taken again" in meanwhile:
        log.write_text("1\n2\n")
        assert scene.evacuate(incident_id=scene.home.name).name == "Verified"
    if "a training ran" in meanwhile:
        scene.lose_the_guard()
    if "training" in meanwhile:
        scene.small.start(WORKERS="0")
    log.unlink()
    log.with_name("metrics.log.1.gz").write_bytes(b"packed")
    (scene.small.root / "logs/more.log").write_text("3\n")
    for _ in range(2):
        state = scene.evacuate(incident_id=scene.home.name)
        assert state.name == name, state.message
        assert ("deleted before it was taken as it was last" in str(state.message)) == (name == "Partial")


def test_a_torn_model_that_stays_as_it_was_is_not_taken_again(scene: Scene) -> None:
    (scene.small.root / "models/torn.pkl").write_bytes(pickle.dumps([*range(99)])[:-9])
    state = scene.evacuate()
    assert "採取後に変更" not in str(state.message)
    state = scene.evacuate(incident_id=scene.home.name)
    assert steps_of(state)["§4 collect models"] == "Cached"
