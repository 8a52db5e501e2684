"""The seed's acceptance. No issue may change this file: budget.toml has its digest.

The runbook's own workload (docs/runbook.md) is evacuated through a real Prefect server and worker to a real S3 server:
started by the form's fields, by `prefect deployment run`, and by the automation on a training run that failed. Asked
for are states, task runs, keys and files, and no sentence.
"""

import hashlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psutil
import pytest

from tests.e2e.seed.conftest import Stage

pytestmark = pytest.mark.whole
SECTIONS = "012345678"
FOLDERS = {"artifacts", "logs", "models"}


def section(step: dict[str, Any]) -> str:
    """The section of the runbook that a task run carries out: `4` of `§4 collect logs`."""
    found = re.match(r"§(\d)", step["name"])
    return found[1] if found else ""


def begun(step: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(step["start_time"])


def over(step: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(step["end_time"])


def of(steps: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The task runs whose names begin so; at least one."""
    found = [step for step in steps if step["name"].startswith(name)]
    assert found, f"{name}: {sorted(step['name'] for step in steps)}"
    return found


def assert_tried_again(steps: list[dict[str, Any]], sections: str) -> None:
    """These sections have steps with retries; none is without where something is frozen, stopped, taken or sent."""
    retried = {(section(step), step["empirical_policy"]["retries"] > 0) for step in steps if section(step)}
    assert {(each, True) for each in sections} <= retried
    assert not {(each, False) for each in "234567"} & retried


def assert_saved(stage: Stage, incident: str) -> None:
    """What the manifest lists is in the store with its bytes, beside snapshot and latest."""
    keys = stage.keys(f"incidents/{incident}/evidence/")
    manifest = json.loads(stage.read(f"incidents/{incident}/evidence/manifest.json"))
    assert {*keys} == {item["path"] for item in manifest["items"]} | {"manifest.json", "SHA256SUMS"}
    for item in manifest["items"]:
        body = stage.read(f"incidents/{incident}/evidence/{item['path']}")
        assert (len(body), hashlib.sha256(body).hexdigest()) == (item["bytes"], item["sha256"]), item["path"]
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=stage.evidence / incident / "evidence", check=False).returncode == 0
    for folder in (f"snapshots/{incident.removeprefix('IR-')}/", "latest/"):
        kept = stage.keys(folder)
        assert {key.partition("/")[0] for key in kept} >= FOLDERS, folder
        assert any(re.fullmatch(r"models/model_.*\.joblib", key) for key in kept)
        assert any(re.fullmatch(r"artifacts/summary_.*\.json", key) for key in kept)
        assert any(re.fullmatch(r"logs/.*\.log", key) for key in kept)


@contextmanager
def silent(server: psutil.Process) -> Iterator[None]:
    """Let a server not answer."""
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


def killed_once_sealed(stage: Stage) -> tuple[str, set[str]]:
    """Start an evacuation and kill it once its manifest is made and nothing could be sent; what it had finished."""
    stage.at_work()
    with silent(psutil.Process(stage.store.pid)):
        run = stage.start(
            "evacuate",
        )
        process = stage.process_of(run)

        def sealed() -> bool:
            done = [step["name"] for step in stage.steps(run) if step["state_type"] == "COMPLETED"]
            return any(name.startswith("§4 seal") for name in done) and any(
                name.startswith("§1 check") for name in done
            )

        stage.until(sealed, "the manifest, and the end of the launch that tests the cordon")
        process.kill()
        stage.until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its death")
        steps = stage.steps(run)
    assert [step["name"] for step in steps if section(step) in "56" and step["state_type"] == "COMPLETED"] == []
    incident = stage.incidents[-1]
    assert stage.keys(f"incidents/{incident}/evidence/") == []
    return incident, {
        step["name"]
        for step in steps
        if step["name"].startswith(("§3 stop", "§4 collect", "§4 seal")) and step["state_type"] == "COMPLETED"
    }


def test_from_the_form_each_step_of_the_runbook_is_a_task_and_the_api_comes_back(stage: Stage) -> None:
    form = stage.deployment("evacuate")["parameter_openapi_schema"]["properties"]
    assert {"dry_run", "reason", "detected_at", "incident_id", "policy", "recover"} <= {*form}
    stage.at_work()
    run = stage.start("evacuate", reason="disk alarm", policy="graceful", dry_run=False)
    ended = stage.ended(run)
    assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "Verified"), ended["state"]["message"]
    assert stage.workload.living() == []
    assert_saved(stage, stage.incidents[-1])

    steps = stage.settled_steps(run)
    assert {section(step) for step in steps} >= {*SECTIONS} - {"7"}
    assert_tried_again(steps, "1234568")
    collected = of(steps, "§4 collect")
    assert any(begun(one) < begun(other) < over(one) for one in collected for other in collected if one is not other)
    assert max(map(over, of(steps, "§4 seal"))) <= min(map(begun, of(steps, "§5 offload")))
    assert max(map(over, of(steps, "§3 stop"))) <= min(map(begun, of(steps, "§6")))

    back = stage.ended(
        stage.start(
            "recover",
        )
    )
    assert (back["state_type"], back["state_name"]) == ("COMPLETED", "Recovered"), back["state"]["message"]
    assert stage.workload.healthy()
    assert "pred_proba" in stage.workload.predict()
    again = stage.settled_steps(back["id"])
    assert "7" in {section(step) for step in again}
    assert_tried_again(again, "7")


def test_store_and_credentials_come_from_blocks(stage: Stage) -> None:
    blocks = {each["block_type"]["slug"]: each for each in stage.ask("/block_documents/filter", {})}
    assert {"workload", "evidence-store", "aws-credentials"} <= {*blocks}
    shown = json.dumps([stage.ask("/block_documents/filter", {}), stage.ask("/flow_runs/filter", {})])
    assert stage.store.secret_key not in shown


def test_prefect_deployment_run_starts_it(stage: Stage) -> None:
    stage.at_work()
    known = {run["id"] for run in stage.evacuations()}
    stage.type("deployment", "run", stage.full_name("evacuate"), "--param", "reason=audit")
    (run,) = (run for run in stage.evacuations() if run["id"] not in known)
    assert stage.ended(run["id"])["state_name"] == "Verified"
    assert stage.workload.living() == []
    assert_saved(stage, stage.incidents[-1])


def test_the_automation_starts_it_when_a_training_run_has_failed(stage: Stage) -> None:
    stage.at_work()
    known, before = {run["id"] for run in stage.evacuations()}, {*stage.incidents}
    script = stage.workload.root / "src/train.py"
    good = script.read_text()
    script.write_text("print('loss is NaN')\nraise SystemExit(3)\n")
    assert stage.ended(stage.start("train"))["state_type"] == "FAILED"
    script.write_text(good)
    stage.until(lambda: {run["id"] for run in stage.evacuations()} - known, "a run by the automation")

    def ended() -> list[str]:
        started = [run for run in stage.evacuations() if run["id"] not in known]
        return [run["state_name"] for run in started] if all(run["end_time"] for run in started) else []

    stage.until(lambda: "Verified" in ended(), "its end")
    (incident,) = {*stage.incidents} - before
    assert stage.workload.living() == []
    assert_saved(stage, incident)


def test_a_run_that_is_killed_and_run_again_finds_its_finished_steps_cached(stage: Stage) -> None:
    incident, finished = killed_once_sealed(stage)
    again = stage.ended(stage.start("evacuate", incident_id=incident))
    assert again["state_name"] == "Verified", again["state"]["message"]
    cached = {step["name"] for step in stage.settled_steps(again["id"]) if step["state_name"] == "Cached"}
    assert finished - cached <= {"§4 collect logs"}, "the launch that tests the cordon writes a new log"
    assert len(finished) > 10
    assert stage.incidents[-1] == incident
    assert_saved(stage, incident)


def test_with_a_manifest_that_fails_nothing_is_sent(stage: Stage) -> None:
    incident, _ = killed_once_sealed(stage)
    (stage.evidence / incident / "evidence/df.txt").write_bytes(b"another\n")
    again = stage.ended(stage.start("evacuate", incident_id=incident))
    assert again["state_type"] == "FAILED"
    steps = stage.settled_steps(again["id"])
    assert [step["state_type"] for step in of(steps, "§5 offload")] != ["COMPLETED"]
    assert all(step["start_time"] is None for step in of(steps, "§5 offload"))
    assert stage.keys(f"incidents/{incident}/evidence/") == []
    assert stage.keys(f"snapshots/{incident.removeprefix('IR-')}/") == []
