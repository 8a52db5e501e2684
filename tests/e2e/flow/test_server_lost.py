"""The Prefect server dies in mid-run: the run ends by itself, with its evidence and its record where they belong."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from flows.engine import PATIENCE
from tasks.audit.verify import verify_incident
from tasks.custody.audit.signers import read_signers
from tasks.drill.store_and_worker import Worker
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tasks.prefect_side.own_server import PrefectServer
from tasks.prestart.prefect_http import answers
from tests.e2e.flow.test_early import environment
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until

RECORD_SECONDS = 60.0
WORKER_SECONDS = 8.0
END_SECONDS = 120.0
"""Measured: 2 s, and 37 s with the engine's own patience. Before, the run stood for minutes and left no record."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server of its own, for it will be killed."""
    with PrefectServer(tmp_path / "server") as started, temporary_settings({PREFECT_API_URL: started.api}):
        yield started


def done(scene: Scene, step: str) -> bool:
    logs = scene.block.evidence.glob("IR-*/custody.jsonl")
    entries = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return any((entry["action"], entry["object"]) == ("step done", step) for entry in entries)


@pytest.mark.whole
def test_killed_after_the_freeze(
    server: PrefectServer, small: SmallWorkload, signing_key: SigningKey, tmp_path: Path
) -> None:
    signing_key.save("key")
    (tmp_path / "store").mkdir()
    scene = Scene(small, EvidenceStore(folder=tmp_path / "store", signing=SigningKey.load("key")))
    small.start_all()
    told = {**server.env, **environment(scene), "PREFECT_CLIENT_MAX_RETRIES": "1"}
    assert answers(told)
    run = subprocess.Popen([sys.executable, "-m", "flows.engine"], env=told, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: done(scene, "§2 freeze the workload"), 60, what="the freeze")
        os.killpg(server.pid, signal.SIGKILL)
        wait_until(lambda: list(scene.home.glob("record/*/closing.json")), RECORD_SECONDS, what="the record")
        _, said = run.communicate(timeout=END_SECONDS)
    finally:
        run.kill()
        LinuxHost().release(scene.block.evidence / CORDON)
    assert not answers(told)
    assert run.returncode == 1
    assert "what it did not hear of this run is lost to it" in said
    assert json.loads((scene.home / "record/001/closing.json").read_bytes())["verdict"] == "VERIFIED"
    assert small.living() == []
    found = verify_incident(scene.store, scene.home.name, read_signers(signing_key.allowed_signers), deep=True)
    assert found.is_complete, found.findings


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_told_to_end_does_not_wait_for_a_server_that_is_gone_or_hangs(
    server: PrefectServer, tmp_path: Path, number: signal.Signals
) -> None:
    """Prefect offers it the last events many times, and waits for its answer to the end of the event stream."""
    with Worker(tmp_path / "worker", server, "lost") as worker:
        (process,) = psutil.Process(worker.pid).children()
        os.killpg(server.pid, number)
        wait_until(lambda: not answers(server.env), what="the server's end")
        process.terminate()
        psutil.wait_procs([process], WORKER_SECONDS)
        assert not process.is_running()
    assert "what it did not hear of this worker is lost to it" in worker.log.read_text()


def test_the_worker_may_say_how_long_a_server_is_waited_for() -> None:
    code = "import flows.engine as e, runpy, os; runpy.run_module = lambda *_, **__: None\n"
    code += "e.load = e.take_priority = lambda: None; e.leave_dead_server = print\n"
    code += f"e.main(); print([os.environ[name] for name in {list(PATIENCE)}])"
    told = {**os.environ, "PREFECT_CLIENT_MAX_RETRIES": "7"}
    said = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "['7', '10']"
