"""A run that is told to end: the step in hand ends, the record says what is true, then another run may begin."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.workload import Workload
from tasks.host.host import LinuxHost
from tasks.incident.run_lock import owner
from tests.e2e.flow.test_by_hand import NOBODY, toml
from tests.support.workloads import SmallWorkload, wait_until

STUBBORN = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    open("ready", "w").close()
while True:
    time.sleep(0.05)
"""
SOON = 20.0
"""Seconds in which a cancelled run has to be over: Prefect's worker kills after 30."""


class ByHand:
    """A run by hand of a workload whose training heeds no gentle signal."""

    def __init__(self, small: SmallWorkload, store: dict[str, Any], folder: Path) -> None:
        """Write the file that an operator would write, and start the training and the run."""
        (small.root / "src/train.py").write_text(STUBBORN)
        self.small, self.block = small, small.block(evidence_dir=folder / "evidence", grace_seconds=60)
        small.start()
        wait_until((small.root / "ready").exists, what="the training's start")
        fields = json.loads(self.block.model_dump_json(exclude_unset=True))
        told = {name: value for name, value in fields.items() if name in Workload.model_fields}
        file = folder / "an evacuation.toml"
        file.write_text(toml("workload", "test", told) + toml("store", "test", store))
        self.environment = {**os.environ, "PREFECT_API_URL": NOBODY}
        self.command = [sys.executable, "-m", "flows.cli", "run", str(file)]
        self.run = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def cancel_at(self, action: str, subject: str, *numbers: signal.Signals) -> tuple[float, str]:
        """Cancel once the custody log has the entry; how long the run took to end, and what it printed."""
        wait_until(lambda: self.run.poll() is not None or self.has(action, subject), what=f"{action} {subject}")
        assert self.run.poll() is None, self.run.communicate()
        began = time.monotonic()
        for number in numbers:
            self.run.send_signal(number)
        out, err = self.run.communicate(timeout=90)
        return time.monotonic() - began, out + err

    def has(self, action: str, subject: str) -> bool:
        """Whether the custody log has such an entry."""
        return any(each["action"] == action and each["object"].startswith(subject) for each in self.entries)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The custody log, as far as it is written."""
        logs = list(self.block.evidence.glob("IR-*/custody.jsonl"))
        return [
            json.loads(line) for log in logs for line in log.read_text().splitlines(keepends=True) if line[-1:] == "\n"
        ]

    @property
    def home(self) -> Path:
        """The folder of the only incident."""
        (home,) = self.block.evidence.glob("IR-*")
        return home

    @property
    def verdict(self) -> str:
        """The word of the closed record."""
        return str(json.loads((self.home / "record/001/closing.json").read_bytes())["verdict"])

    def states(self) -> set[str]:
        """How the workload's processes stand."""
        return {process.status() for process in self.small.living()}


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    LinuxHost().release(tmp_path / "evidence/cordon.json")


@pytest.fixture
def hanging() -> Iterator[str]:
    """A store that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def folder_store(folder: Path) -> dict[str, Any]:
    (folder / "store").mkdir()
    return {"folder": str(folder / "store")}


@pytest.mark.soak
def test_in_the_grace_what_was_thawed_is_frozen_again_before_another_run_may_begin(
    small: SmallWorkload, evidence: Path
) -> None:
    by_hand = ByHand(small, folder_store(evidence), evidence)
    seconds, told = by_hand.cancel_at("deviation", "thaw", signal.SIGTERM)
    assert by_hand.states() == {psutil.STATUS_STOPPED}, told
    assert by_hand.run.returncode == 6, told
    assert seconds < SOON
    assert f"Cancelled: {by_hand.home.name}: cancelled: frozen, not stopped" in told
    assert by_hand.verdict == "NOTCONTAINED"
    (entry,) = [each for each in by_hand.entries if each["action"] == "cancelled"]
    assert entry["result"] == "frozen, not stopped"
    assert "cancelled: frozen, not stopped" in told.partition("incident  ")[2]
    assert told.count(f"{by_hand.home.name}: cancelled: frozen, not stopped") == 1
    assert "nothing of what stands frozen is lost" in told.partition("incident  ")[2]
    assert "by hand" not in told
    assert "at work  " not in told
    assert not owner(by_hand.block.evidence)
    command = [*by_hand.command, "--policy", "kill"]
    again = subprocess.run(command, env=by_hand.environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert by_hand.small.living() == []


@pytest.mark.soak
def test_while_a_store_hangs_it_is_contained_and_not_stored_and_a_second_signal_tears_nothing(
    small: SmallWorkload, evidence: Path, hanging: str
) -> None:
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    store = {"bucket": "evidence", "endpoint": hanging, "region": "us-east-1", "credentials": keys}
    by_hand = ByHand(small, store, evidence)
    for process in by_hand.small.living():
        process.send_signal(signal.SIGKILL)
    seconds, told = by_hand.cancel_at("step done", "§4 check", signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert by_hand.run.returncode == 6, told
    assert seconds < SOON
    assert f"Cancelled: {by_hand.home.name}: cancelled: contained, not stored" in told
    assert f"; nothing of it is proven to be in s3://evidence/incidents/{by_hand.home.name}" in told
    assert "s3://evidence does not answer" in told
    assert told.count("as is said there") == 1
    assert by_hand.verdict == "UNVERIFIED"
    assert not owner(by_hand.block.evidence)
