"""The whole evacuation of the small workload: real server, real S3, real processes."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterTags,
)
from prefect.client.schemas.objects import State
from prefect.utilities.callables import parameter_schema
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.store import EvidenceStore
from flows.evacuate import evacuate
from tasks.containment.release.uncordon import Uncordoned, uncordon
from tasks.custody.incident.log import broken
from tasks.drill.store_and_worker import SeaweedFS
from tasks.incident.run_lock import incident_at_work, take_ownership
from tests.support.graph import drawn, recorded
from tests.support.scenes import Scene, steps_of
from tests.support.workloads import free_port, wait_until


def items(home: Path, volume: str = "evidence") -> dict[str, str]:
    """Stored names and digests of a manifest."""
    return {
        item["path"]: item["sha256"] for item in json.loads((home / volume / "manifest.json").read_bytes())["items"]
    }


def test_a_workload_in_mid_training_ends_verified_and_the_same_incident_again_repeats_nothing(
    scene: Scene, seaweed: SeaweedFS
) -> None:
    scene.small.start_all()
    state = scene.evacuate(reason="loss is NaN")
    assert (state.type.value, state.name) == ("COMPLETED", "Verified"), state.message
    assert scene.small.living() == []
    assert set(steps_of(state).values()) == {"Completed"} or steps_of(state)["§4 collect kernel"] == "Failed"
    assert_a_stranger_can_check_it(scene, seaweed)
    assert_the_store_holds_snapshot_latest_claim_and_record(scene)
    assert_no_secret_of_ours_is_left_anywhere(scene, seaweed)
    assert_no_finished_step_is_repeated_and_every_check_looks_anew(scene)
    assert_the_custody_log_is_one_chain_over_its_segments(scene)


def assert_a_stranger_can_check_it(scene: Scene, seaweed: SeaweedFS) -> None:
    """By sha256sum and the S3 API alone."""
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=scene.home / "evidence", check=False).returncode == 0
    assert oct((scene.home).stat().st_mode)[-3:] == "700"
    client = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key,
        aws_secret_access_key=seaweed.secret_key,
        region_name="us-east-1",
    )
    prefix = f"{scene.store_block.prefix}/incidents/{scene.home.name}/evidence/"
    listed = client.list_objects_v2(Bucket=seaweed.bucket, Prefix=prefix)["Contents"]
    names = {each["Key"].removeprefix(prefix) for each in listed}
    assert names == items(scene.home).keys() | {"manifest.json", "SHA256SUMS"}
    body = client.get_object(Bucket=seaweed.bucket, Key=f"{prefix}models/model_builtin.joblib")["Body"].read()
    assert body == (scene.small.root / "models/model_builtin.joblib").read_bytes()
    client.close()


def assert_the_store_holds_snapshot_latest_claim_and_record(scene: Scene) -> None:
    """And the server the pages."""
    incident = scene.home.name
    keys = {each.key for each in scene.store.list("")}
    for folder in (f"snapshots/{incident.removeprefix('IR-')}", "latest"):
        assert f"{folder}/models/model_builtin.joblib" in keys
        assert f"{folder}/artifacts/summary_builtin.json" in keys
        assert f"{folder}/logs/train-20260101_000000.log" in keys
    assert f"incidents/{incident}/claim.json" in keys
    record = {key.rsplit("/", 1)[1] for key in keys if key.startswith(f"incidents/{incident}/record/001/")}
    pages = {"postmortem.md", "postmortem.html", "timeline.svg"}
    assert record == {"closing.json", "custody.jsonl", "verdict.json"} | pages
    key = ArtifactFilterKey(like_=f"%-{incident.lower()}")
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    shown = {str(each.key).partition("-")[0]: str(each.data) for each in artifacts if each.type == "markdown"}
    assert set(shown) == {"verdict", "manifest", "receipts", "timeline", "postmortem"}
    assert "](data:image/svg+xml;base64," in shown["postmortem"]
    assert f"]({scene.store_block.address(f'incidents/{incident}/evidence/manifest.json')})" in shown["receipts"]


def assert_no_secret_of_ours_is_left_anywhere(scene: Scene, seaweed: SeaweedFS) -> None:
    """Neither on the host, nor in the store, nor on the server."""
    needle = seaweed.secret_key.encode()
    for path in scene.home.rglob("*"):
        assert not path.is_file() or needle not in path.read_bytes(), path
    store = scene.store
    for each in store.list(""):
        assert needle not in store.read(each.key), each.key
    with get_client(sync_client=True) as client:
        assert needle.decode() not in str(client.read_artifacts())
        assert needle.decode() not in str([run.parameters for run in client.read_flow_runs()])


def assert_no_finished_step_is_repeated_and_every_check_looks_anew(scene: Scene) -> None:
    """By the same incident, run again."""
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    ended = steps_of(state)
    cached = {name for name, how in ended.items() if how == "Cached"}
    assert {"§3 stop the workload", "§4 seal volume 1", "§5 offload", "§4 collect logs", "§4 collect tree"} <= cached
    assert not [name for name in cached if "check" in name]
    assert len(scene.incidents) == 1


def assert_the_custody_log_is_one_chain_over_its_segments(scene: Scene) -> None:
    """Two runs have written it."""
    segments = ["evidence/custody.jsonl", "record/001/custody.jsonl", "record/002/custody.jsonl"]
    lines = [line for name in segments for line in (scene.home / name).read_bytes().splitlines(keepends=True)]
    assert broken(lines) == []
    assert lines == (scene.home / "custody.jsonl").read_bytes().splitlines(keepends=True)[: len(lines)]


@pytest.mark.soak
def test_recovery_brings_the_api_back_with_the_model_of_the_manifest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = list[str]()

    def lift(*given: Any) -> Uncordoned:
        joined.append(incident_at_work(scene.block.evidence))
        return uncordon(*given)

    monkeypatch.setattr("tasks.recovery.recover.uncordon", lift)
    scene.small.start_all()
    state = scene.evacuate(recover=True)
    assert state.name == "Verified", state.message
    assert_prefect_has_the_graph_of_the_page_and_tags(state, scene.home.name)
    assert joined == [""], "once training may start again, its failure is news"
    assert len(scene.small.living()) == 1
    assert scene.small.healthy()
    assert subprocess.run(["flock", "-n", str(scene.block.lock), "true"], check=False).returncode == 0
    again = scene.evacuate(incident_id=scene.home.name, recover=True)
    assert again.name == "Verified", again.message
    assert len(scene.small.living()) == 1


def assert_prefect_has_the_graph_of_the_page_and_tags(state: State, incident: str) -> None:
    """Of a run that recovers."""
    steps_of(state)
    edges = recorded(state)
    rare = {"rehearse_silence", "rehearse_recovery", "thaw", "prove_contained_again"}
    assert edges == {edge for edge in drawn() if rare.isdisjoint(edge)}
    with get_client(sync_client=True) as client:
        tagged = TaskRunFilterTags(all_=["§3", "step:stop", f"incident:{incident}"])
        (stop,) = client.read_task_runs(task_run_filter=TaskRunFilter(tags=tagged))
    assert stop.flow_run_id == state.state_details.flow_run_id


@pytest.mark.soak
def test_an_api_that_does_not_come_back_leaves_the_workload_contained(scene: Scene) -> None:
    scene.save(workload=scene.small.block(api_command=["venv/bin/python", "-c", "raise SystemExit(3)"]))
    state = scene.evacuate(recover=True)
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered")
    assert scene.small.living() == []
    assert subprocess.run(["flock", "-n", "-E", "75", str(scene.block.lock), "true"], check=False).returncode == 75


@pytest.mark.soak
def test_an_api_that_serves_another_model_is_no_recovery(scene: Scene) -> None:
    api = scene.small.root / "uvicorn/__main__.py"
    program = api.read_text().replace("            model = wanted\n", "            model = 'models/other.joblib'\n")
    assert "other.joblib" in program
    api.write_text(program)
    (scene.small.root / "models/other.joblib").write_bytes(b"another")
    state = scene.evacuate(recover=True, model="models/model_builtin.joblib")
    assert state.name == "NotRecovered", state.message
    assert scene.small.living() == []


def test_an_unreachable_store_delays_nothing_and_the_same_incident_finishes_later(scene: Scene) -> None:
    good = scene.store_block
    scene.save(store=EvidenceStore(**dict(good) | {"endpoint": f"http://127.0.0.1:{free_port()}"}))
    scene.small.start_all()
    state = scene.evacuate()
    assert (state.type.value, state.name) == ("FAILED", "Unverified")
    assert scene.small.living() == []
    assert (scene.home / "evidence/manifest.json").exists()
    assert (scene.home / "record/001/closing.json").exists()
    assert "incident_id=" in str(state.message)
    scene.save(store=good)
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert steps_of(state)["§4 collect models"] == "Cached"
    assert f"incidents/{scene.home.name}/record/001/closing.json" in {each.key for each in scene.store.list("")}


@pytest.mark.whole
@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"bucket": "no-such-bucket"}, "bucket", marks=pytest.mark.soak),
        ({"credentials": AwsCredentials(aws_access_key_id="x", aws_secret_access_key=SecretStr("y"))}, "access key"),
    ],
)
def test_a_store_that_refuses_is_known_at_once_and_says_what_to_do(
    scene: Scene, change: dict[str, object], words: str
) -> None:
    scene.save(store=EvidenceStore(**dict(scene.store_block) | change))
    state = scene.evacuate()
    assert state.name == "Unverified"
    entries = [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]
    claim = next(entry for entry in entries if entry["action"] == "step failed" and "claim" in entry["object"])
    offload = next(entry for entry in entries if entry["action"] == "step started" and "offload" in entry["object"])
    assert words in claim["result"].lower()
    assert claim["seq"] < offload["seq"]


@pytest.mark.soak
def test_a_collector_that_fails_once_is_tried_again_and_its_failure_is_never_kept(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "df").write_text(f'#!/bin/sh\nmkdir "{tmp_path}/tried" && exit 1\necho all free\n')
    (programs / "df").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert steps_of(state)["§4 collect disk"] == "Completed"
    tries = [line for line in (scene.home / "custody.jsonl").read_text().splitlines() if "step incomplete" in line]
    assert any("collect disk" in line for line in tries)
    assert (scene.home / "evidence/df.txt").read_text() == "all free\n"


@pytest.mark.whole
def test_a_needed_loss_is_partial_and_what_a_later_run_finds_is_a_supplement(scene: Scene) -> None:
    model = scene.small.root / "models/model_builtin.joblib"
    content = model.read_bytes()
    model.unlink()
    state = scene.evacuate()
    assert (state.type.value, state.name) == ("FAILED", "Partial")
    assert "models" in str(state.message)
    sealed = (scene.home / "evidence/manifest.json").read_bytes()
    model.write_bytes(content)
    state = scene.evacuate(incident_id=scene.home.name)
    assert state.name == "Verified", state.message
    assert (scene.home / "evidence/manifest.json").read_bytes() == sealed
    assert "models/model_builtin.joblib" in items(scene.home, "evidence.2")
    assert scene.store.head(f"incidents/{scene.home.name}/evidence.2/manifest.json")
    assert scene.store.head("latest/models/model_builtin.joblib")
    assert steps_of(state)["§4 seal volume 1"] == "Cached"


@pytest.mark.soak
def test_latest_never_loses_a_good_model_to_a_torn_one(scene: Scene) -> None:
    scene.evacuate()
    good = scene.store.head("latest/models/model_builtin.joblib")
    scene.lose_the_guard()
    scene.small.start_all()
    torn = scene.small.root / "models/model_builtin.joblib"
    torn.write_bytes(torn.read_bytes()[:-200])
    (scene.small.root / "models/model_second.joblib").write_bytes(b"\x80\x04N.")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert scene.store.head("latest/models/model_builtin.joblib") == good
    assert scene.store.head("latest/models/model_second.joblib")
    second = scene.incidents[-1].name.removeprefix("IR-")
    assert scene.store.head(f"snapshots/{second}/models/model_builtin.joblib") != good


@pytest.mark.soak
def test_evidence_changed_after_the_seal_is_found_and_not_sent(scene: Scene) -> None:
    good = scene.store_block
    scene.save(store=EvidenceStore(**dict(good) | {"endpoint": f"http://127.0.0.1:{free_port()}"}))
    scene.evacuate()
    log = scene.home / "evidence/logs/train-20260101_000000.log"
    log.write_text("iteration 2\n")
    scene.save(store=good)
    state = scene.evacuate()
    assert state.name == "Unverified"
    assert "logs/train-20260101_000000.log" in str(state.message)
    assert list(scene.store.list(f"incidents/{scene.home.name}/evidence/")) == []


@pytest.mark.whole
def test_a_lock_that_somebody_holds_is_not_contained_whatever_the_store_says(scene: Scene) -> None:
    scene.small.start(["flock", str(scene.block.lock), "sleep", "600"])
    wait_until(lambda: subprocess.run(["flock", "-n", str(scene.block.lock), "true"], check=False).returncode == 1)
    state = scene.evacuate()
    assert (state.type.value, state.name) == ("FAILED", "NotContained")
    assert scene.store.head(f"incidents/{scene.home.name}/evidence/manifest.json")


def test_a_second_run_at_the_same_moment_says_so_and_does_nothing(scene: Scene) -> None:
    scene.block.evidence.mkdir()
    held = take_ownership(scene.block.evidence)
    assert held is not None
    state = scene.evacuate()
    os.close(held)
    assert (state.type.value, state.name) == ("COMPLETED", "Joined")
    assert scene.incidents == []


def test_beside_a_recovery_it_fails_for_it_has_contained_nothing(scene: Scene) -> None:
    scene.block.evidence.mkdir()
    held = take_ownership(scene.block.evidence, "recovery")
    assert held is not None
    state = scene.evacuate()
    os.close(held)
    assert state.type.value == "FAILED"
    assert "a recovery that is under way" in str(state.message)


@pytest.mark.whole
def test_a_dry_run_sends_nothing_stops_nothing_and_shows_its_plan(scene: Scene) -> None:
    scene.small.start_all()
    state = scene.evacuate(dry_run=True)
    assert (state.type.value, state.name) == ("COMPLETED", "DryRun"), state.message
    assert len(scene.small.living()) == 4
    assert list(scene.store.list("")) == []
    assert scene.incidents == []
    assert not scene.block.lock.exists()
    this = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=this))
    (plan,) = [each for each in artifacts if str(each.key).startswith("plan-")]
    rows = json.loads(str(plan.data))
    training = next(row for row in rows if row["act"] == "would freeze" and "src/train.py" in row["on"])
    assert training["why"].startswith("training: matches the training pattern, has run for 0:0")
    acts = {"hold the lock", "freeze", "send SIGINT", "collect", "create", "add"}
    assert {f"would {act}" for act in acts} <= {row["act"] for row in rows}
    assert "it would end VERIFIED 検証済み; unless" in str(state.message)
    asked = (scene.small.root / "logs/api-20260101.log").read_text()
    assert "GET /schema" in asked
    assert "POST" not in asked
    on_disk = Path(str(state.message).rpartition(", and ")[2]).read_text()
    assert f"would freeze  {training['on']}  {training['why']}\n" in on_disk


@pytest.mark.soak
def test_a_dry_run_says_that_a_supervisor_may_undo_it(scene: Scene) -> None:
    script = scene.small.root.parent / "supervise.sh"
    script.write_text(f"cd '{scene.small.root}'\nwhile true; do {shlex.join(scene.small.training_command)}; done\n")
    loop = scene.small.start(["bash", str(script)])
    wait_until(lambda: len(scene.small.living()) == 4, what="the training under its supervisor")
    told = str(scene.evacuate(dry_run=True).message)
    assert f"it would end NOTCONTAINED 封じ込め未完了, for: {loop.pid}: bash {script} (a loop in a shell" in told
    assert f"kill {loop.pid}); or set stop_supervisors = true in the workload block; unless" in told


@pytest.mark.soak
def test_an_incident_id_of_another_shape_is_refused_before_anything_is_touched(scene: Scene) -> None:
    scene.small.start_all()
    for bad in ("../x", "", "IR-" + "2" * 300, "IR-20261324T000000Z", "ir-20260102t030405z", "IR-1\n"):
        state = scene.evacuate(incident_id=bad)
        assert state.is_failed(), bad
        assert "IR-YYYYmmddTHHMMSSZ" in str(state.message)
        assert len(scene.small.living()) == 4
        assert not scene.block.evidence.exists()


def test_an_incident_id_that_nobody_knows_is_refused_and_the_workload_goes_on(scene: Scene) -> None:
    scene.small.start_all()
    for bad in ("IR-20200101T000000Z", "IR-20990101T000000Z"):
        state = scene.evacuate(incident_id=bad)
        assert state.is_failed(), bad
        assert "Leave incident_id empty for a new incident" in str(state.message)
        assert len(scene.small.living()) == 4
        assert scene.small.healthy()
    assert scene.incidents == []


def test_an_unknown_block_is_refused_with_the_names_that_are_known(scene: Scene) -> None:
    for workload, store in (("nobody", scene.name), (scene.name, "nowhere")):
        state = evacuate(workload, store, return_state=True)
        assert state.is_failed()
        assert scene.name in str(state.message)
        assert "Nothing was touched" in str(state.message)
    assert not scene.block.evidence.exists()


@pytest.mark.whole
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "another-machine"}, "another-machine"),
        ({"root": Path("/nonexistent/workload")}, "/nonexistent/workload"),
        ({"needed": ["logs", "horoscope"]}, "horoscope"),
    ],
)
def test_a_workload_that_is_not_as_the_block_says_is_refused(
    scene: Scene, change: dict[str, object], words: str
) -> None:
    scene.save(workload=scene.small.block(**change))
    state = scene.evacuate()
    assert state.is_failed()
    assert words in str(state.message)
    assert "Nothing was touched" in str(state.message)
    assert not (scene.small.root / "evidence").exists()


def test_the_form_explains_every_parameter() -> None:
    for name, schema in parameter_schema(evacuate).properties.items():
        assert len(schema.get("description", "")) > 10, name
