"""The flow's process is killed between two steps; the same incident, run again, finishes and repeats nothing."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tasks.collectors import discover
from tasks.custody.containment.receipt import End
from tests.support.scenes import Scene, steps_of

DIE = Path(__file__).with_name("die.py")
MOMENTS = [
    ("step started", "§1 cordon"),
    ("step done", "§1 cordon"),
    ("step started", "§2 freeze"),
    ("frozen", ""),
    ("step done", "§2 freeze"),
    *(("step done", f"§4 collect {name}") for name in discover() if name not in {"kernel", "git", "journal"}),
    ("deviation", "thaw"),
    ("stopped", ""),
    ("step done", "§3 stop"),
    ("step done", "§3 check"),
    ("step done", "§1 cordon: pause"),
    ("step started", "§4 seal"),
    ("unsigned", "evidence/manifest.json"),
    ("sealed", ""),
    ("step done", "§4 seal"),
    ("step done", "§4 check"),
    ("step done", "§5 claim"),
    ("step started", "§5 offload"),
    ("step done", "§5 offload"),
    ("step done", "§6 check"),
    ("step done", "§1 check: a launch"),
    ("step done", "§3 watch"),
    ("turn begun", ""),
    ("promoted", ""),
    ("turn done", ""),
    ("step done", "§5 promote"),
    ("verdict", ""),
    ("unsigned", "record/001/closing.json"),
]
SIGNALS = [
    ("SIGSTOP", "2", "graceful"),
    ("SIGSTOP", "4", "graceful"),
    ("SIGINT", "1", "graceful"),
    ("SIGINT", "4", "graceful"),
    ("SIGCONT", "1", "graceful"),
    ("SIGCONT", "4", "graceful"),
    ("SIGKILL", "1", "kill"),
    ("SIGKILL", "4", "kill"),
]
"""In the middle of the freeze, between signal and thaw, in the thaw and the grace, and before the receipts."""
SAMPLE = random.Random(20261124).sample(MOMENTS, 1)  # noqa: S311  a sample, not a secret


def kill_and_carry_on(scene: Scene, action: str, subject: str, policy: str = "graceful") -> None:
    scene.small.start_all()
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "POLICY": policy}
    died = subprocess.run(
        [sys.executable, str(DIE), action, subject, scene.name], env=environment, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    entries = [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]
    moments = [(entry["action"], entry["object"].startswith(subject)) for entry in entries[-12:]]
    assert (action, True) in moments or action.startswith("SIG")
    kept = len(list((scene.home / "results").glob("IR-*")))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert len(scene.incidents) == 1
    assert scene.small.living() == []
    assert list(steps_of(state).values()).count("Cached") == kept
    receipts = json.loads((scene.home / "record/001/verdict.json").read_bytes())["stop"]["processes"]
    assert len(receipts) == 4
    assert {receipt["end"] for receipt in receipts} <= {End.STOPPED, End.KILLED}
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=scene.home / "evidence", check=False).returncode == 0


@pytest.mark.parametrize(("action", "subject"), SAMPLE)
def test_killed_at_a_seeded_moment(scene: Scene, action: str, subject: str) -> None:
    kill_and_carry_on(scene, action, subject)


@pytest.mark.soak
@pytest.mark.parametrize(("action", "subject"), MOMENTS)
def test_killed_at_every_moment(scene: Scene, action: str, subject: str) -> None:
    kill_and_carry_on(scene, action, subject)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "count", "policy"), random.Random(20261126).sample(SIGNALS, 1))  # noqa: S311
def test_killed_at_a_seeded_signal(scene: Scene, name: str, count: str, policy: str) -> None:
    kill_and_carry_on(scene, name, count, policy)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "count", "policy"), SIGNALS)
def test_killed_at_every_signal(scene: Scene, name: str, count: str, policy: str) -> None:
    kill_and_carry_on(scene, name, count, policy)
