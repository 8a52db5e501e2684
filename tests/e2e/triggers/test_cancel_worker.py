"""A cancel from the UI, by a real server and worker: the run ends Cancelled, well before the worker would kill it."""

import json
import time
from collections.abc import Iterator

import psutil
import pytest

from tasks.host.host import LinuxHost
from tasks.incident.run_lock import owner
from tests.e2e.triggers.conftest import Stage
from tests.integration.host.test_contain import STUBBORN
from tests.support.workloads import TRAIN, wait_until

KILLED_AFTER = 30.0


@pytest.fixture
def patient(stage: Stage) -> Iterator[Stage]:
    """The stage with a grace that outlasts every cancel, and a training that heeds nothing."""
    stage.uncordon()
    told = stage.toml.read_text()
    stage.toml.write_text(told.replace("grace_seconds = 5", "grace_seconds = 90"))
    (stage.small.root / "src/train.py").write_text(STUBBORN)
    stage.deploy()
    stage.small.start(["venv/bin/python", "-u", "src/train.py", "--mode full", "SIGINT", "SIGTERM"])
    wait_until(lambda: list(stage.small.root.glob("ready-*")), what="the training's start")
    yield stage
    for ready in stage.small.root.glob("ready-*"):
        ready.unlink()
    (stage.small.root / "src/train.py").write_text(TRAIN)
    stage.toml.write_text(told)
    stage.deploy()
    carried_on = stage.ended(stage.start("evacuate"))
    assert carried_on["state_name"] == "Verified", carried_on["state"]["message"]


@pytest.mark.soak
def test_a_cancel_in_the_grace_leaves_everything_frozen_and_on_record(patient: Stage) -> None:
    before = set(patient.incidents)
    run = patient.start("evacuate", reason="to be cancelled")

    def thawed() -> bool:
        logs = [home / "custody.jsonl" for home in set(patient.incidents) - before]
        return any('"object": "thaw"' in log.read_text() for log in logs if log.exists())

    wait_until(thawed, what="the thaw")
    patient.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    (home,) = set(patient.incidents) - before
    entries = home / "custody.jsonl"
    wait_until(lambda: '"action": "cancelled"' in entries.read_text(), what="the cancel")
    began = time.monotonic()
    ended = patient.ended(run)
    assert time.monotonic() - began < KILLED_AFTER / 2
    assert ended["state_type"] == "CANCELLED"
    assert {process.status() for process in patient.small.living()} == {psutil.STATUS_STOPPED}
    closing = json.loads((home / "record/001/closing.json").read_bytes())
    assert (closing["verdict"], closing["cancelled"]) == ("NOTCONTAINED", "frozen, not stopped")
    wait_until(lambda: not owner(patient.evidence), what="the end of the run's process")
    states = patient.http.get("/flow_run_states/", params={"flow_run_id": run}).json()
    told = [state["message"] for state in states if state["type"] == "CANCELLED"]
    assert any("cancelled: frozen, not stopped" in str(message) for message in told), told
    asked = {"artifacts": {"key": {"any_": [f"verdict-{home.name.lower()}"]}}}
    (page,) = patient.post("/artifacts/filter", asked)
    assert "frozen, not stopped" in page["data"]
    assert LinuxHost().guard(patient.evidence / "cordon.json")
