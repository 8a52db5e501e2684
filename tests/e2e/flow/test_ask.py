"""An alarm's evacuation that asks: frozen, looked at, then a person stops or thaws it; the deadline is kept."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.store import EvidenceStore
from flows.thaw import thaw
from tasks.audit.verify import verify_incident
from tasks.cli.next_step import Called
from tasks.cli.status import status
from tasks.custody.audit.finding import AuditWord
from tasks.custody.errors import Refused
from tasks.drill.sample_workload import every_process
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tasks.prefect_side.own_server import PrefectServer
from tests.e2e.flow.test_early import environment
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until

ALARM = {"event": "training.failed", "resource": "training.portfolio", "payload": {"exit_code": 1}}
STOOD = psutil.STATUS_STOPPED


class Waiting:
    """An evacuation that waits for an answer, with a person at the form."""

    def __init__(self, scene: Scene, pool: ThreadPoolExecutor, **block: Any) -> None:
        """Start it, and wait until it asks."""
        self.scene = scene
        scene.save(workload=scene.small.block(on_alarm="ask", **block))
        scene.small.start_all()
        self.state: Future[State] = pool.submit(scene.evacuate, alarm=ALARM)
        self.run = self._paused()

    def _paused(self) -> FlowRun:
        found: list[FlowRun] = []
        name = FlowRunFilterName(any_=[f"evacuate {self.scene.name}"])
        paused = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))

        def asks() -> bool:
            with get_client(sync_client=True) as client:
                found[:] = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=name, state=paused))
            return bool(found) or self.state.done()

        wait_until(asks, what="the question")
        assert found, self.state.result()
        return found[0]

    def answer(self, **answer: str) -> int:
        """The status with which the server takes what was filled in."""
        with get_client(sync_client=True) as client:
            return client._client.post(f"/flow_runs/{self.run.id}/resume", json={"run_input": answer}).status_code

    @property
    def question(self) -> str:
        """What the form says."""
        assert self.run.state
        keys = self.run.state.state_details.run_input_keyset
        assert keys
        with get_client(sync_client=True) as client:
            path, found = f"/flow_runs/{self.run.id}/input/{keys['description']}", list[str]()

            def there() -> bool:
                with suppress(PrefectHTTPStatusError):  # the form comes after the state
                    found.append(json.loads(client._client.get(path).text))
                return bool(found)

            wait_until(there, what="the form")
            return found[0]

    def entry(self, action: str) -> dict[str, Any]:
        """The only entry of the custody log that has this action."""
        entries = [json.loads(line) for line in (self.scene.home / "custody.jsonl").read_text().splitlines()]
        (found,) = [entry for entry in entries if entry["action"] == action]
        return dict(found)


def standing(scene: Scene) -> set[str]:
    return {process.status() for process in scene.small.living()}


def assert_the_way_out_is_told(waiting: Waiting) -> None:
    """By the status, and by a thaw that cannot be while the run waits."""
    scene, cancel = waiting.scene, f"prefect flow-run cancel {waiting.run.id}"
    told = "\n".join(status(scene.block, LinuxHost(root=scene.block.root), Called("portfolio", "w.toml")))
    assert f"at work   evacuation, run {waiting.run.id}: it waits for a person until " in told
    assert " UTC, then: stop (回答待ち)" in told
    assert "next      answer it, stop or thaw: in Prefect's UI open that run and press Resume" in told
    assert told.endswith(f"          {cancel}\n          evacuation thaw w.toml")
    with pytest.raises(
        Refused, match=f"got run {waiting.run.id}, which waits for a person. .*Resume in Prefect's UI, .*: {cancel}"
    ):
        thaw(workload=scene.name, store=scene.name)


@pytest.mark.whole
def test_a_person_thaws_and_the_next_alarm_is_an_incident_of_its_own(scene: Scene) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = Waiting(scene, pool)
        assert standing(scene) == {STOOD}
        question = waiting.question
        for words in (
            "exit code 1",
            "4 processes (1 api, 3 training)",
            "停止",
            "解凍",
            "Without an answer until",
            "JST",
        ):
            assert words in question
        assert waiting.answer(decision="perhaps", by="Hanako") == 200  # not 201: the form refuses it
        assert standing(scene) == {STOOD}
        assert scene.evacuate(alarm=ALARM).name == "Joined"
        assert_the_way_out_is_told(waiting)
        assert waiting.answer(decision="thaw", by="Hanako", why="a known glitch") == 201
        state = waiting.state.result(60)
    assert (state.type, state.name) == (StateType.COMPLETED, "Thawed"), state.message
    assert STOOD not in standing(scene)
    assert len(scene.small.living()) == 4
    assert "at work" not in "\n".join(status(scene.block, LinuxHost(root=scene.block.root)))
    home = scene.home
    answered = waiting.entry("answered")
    assert (answered["decision"], answered["by"], answered["why"]) == ("thaw", "Hanako", "a known glitch")
    told = json.loads((home / "record/001/verdict.json").read_bytes())
    assert any("Hanako: a known glitch" in note for note in told["verdict"]["notes"])
    assert told["verdict"]["word"] == "THAWED"
    assert {item["collector"] for item in told["coverage"]} >= {"processes", "tree"}
    assert scene.store.head(f"incidents/{home.name}/record/001/closing.json")
    wait_until(lambda: not keepers(home.name), what="the end of the process that keeps the deadline")
    assert thaw(scene.name, scene.name, return_state=True).name == "Thawed"  # the second time nothing is done
    assert scene.evacuate().name == "Verified"  # a person's own is not asked about
    assert len(scene.incidents) == 2
    again = scene.evacuate(incident_id=home.name)
    assert "was thawed and is over" in str(again.message)
    audit = verify_incident(scene.store, home.name, None, deep=True)
    assert audit.word is not AuditWord.BROKEN, audit.findings


def keepers(incident: str) -> list[psutil.Process]:
    found = []
    for process in every_process():
        try:
            if process.cmdline()[-1:] == ["flows.deadline"] and incident in str(process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.soak
def test_a_person_stops(scene: Scene) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = Waiting(scene, pool)
        assert waiting.answer(decision="stop", by="Taro") == 201
        state = waiting.state.result(90)
    assert state.name == "Verified", state.message
    assert scene.small.living() == []
    assert waiting.entry("answered")["by"] == "Taro"
    assert "Taro" in (scene.home / "record/001/postmortem.md").read_text()


@pytest.mark.soak
@pytest.mark.parametrize(("act", "name"), [("stop", "Verified"), ("thaw", "Thawed")])
def test_the_deadline_is_kept_without_a_person(scene: Scene, act: str, name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = Waiting(scene, pool, ask_seconds=5, unanswered=act)
        state = waiting.state.result(90)
        assert waiting.answer(decision="thaw", by="Hanako") == 200  # too late
    assert state.name == name, state.message
    assert waiting.entry("answered")["decision"] == act
    assert "nobody answered until" in waiting.entry("answered")["result"]
    assert bool(scene.small.living()) == (act == "thaw")
    assert STOOD not in standing(scene)


def asking(scene: Scene, **environ: str) -> "subprocess.Popen[str]":
    """An evacuation as a worker starts it, once it asks."""
    scene.small.start_all()
    told = {**os.environ, **environ, **environment(scene, alarm=ALARM)}
    run = subprocess.Popen([sys.executable, "-m", "flows.engine"], env=told, stderr=subprocess.PIPE, text=True)
    logs = scene.block.evidence
    wait_until(lambda: any('"asked"' in log.read_text() for log in logs.glob("IR-*/custody.jsonl")), what="a question")
    return run


@pytest.mark.soak
def test_cancelled_while_it_waits_it_stays_frozen_and_can_be_thawed(scene: Scene) -> None:
    scene.save(workload=scene.small.block(on_alarm="ask"))
    run = asking(scene)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert standing(scene) == {STOOD}, said
    assert json.loads((scene.home / "record/001/closing.json").read_bytes())["cancelled"] == "frozen, not stopped"
    state = thaw(scene.name, scene.name, reason="a known glitch", return_state=True)
    assert state.name == "Thawed", state.message
    assert STOOD not in standing(scene)
    assert len(scene.small.living()) == 4


@pytest.mark.soak
@pytest.mark.timeout(600)  # a run starts, asks, dies, and another one ends it
@pytest.mark.parametrize(("act", "verdict"), [("stop", "VERIFIED"), ("thaw", "THAWED")])
def test_the_deadline_is_kept_although_run_and_worker_died(scene: Scene, act: str, verdict: str) -> None:
    scene.save(workload=scene.small.block(on_alarm="ask", ask_seconds=20, unanswered=act))
    run = asking(scene)
    run.kill()
    run.communicate()
    assert standing(scene) == {STOOD}
    closing = scene.home / "record/001/closing.json"
    wait_until(closing.exists, 300, what="the record")
    assert json.loads(closing.read_bytes())["verdict"] == verdict, (scene.home / "deadline.log").read_text()
    assert bool(scene.small.living()) == (act == "thaw")
    assert STOOD not in standing(scene)
    wait_until(lambda: not keepers(scene.home.name), what="the end of the process that kept the deadline")


@pytest.mark.soak
def test_the_deadline_is_kept_although_the_server_died_meanwhile(small: SmallWorkload, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with PrefectServer(tmp_path / "server") as server, temporary_settings({PREFECT_API_URL: server.api}):
        scene = Scene(small, EvidenceStore(folder=tmp_path / "store"))
        scene.save(workload=small.block(on_alarm="ask", ask_seconds=20))
        run = asking(scene, PREFECT_CLIENT_MAX_RETRIES="1", **server.env)
        try:
            os.killpg(server.pid, signal.SIGKILL)
            assert standing(scene) == {STOOD}
            closing = scene.home / "record/001/closing.json"
            wait_until(closing.exists, 120, what="the record")
            run.communicate(timeout=120)
        finally:
            run.kill()
            LinuxHost().release(scene.block.evidence / CORDON)
    assert json.loads(closing.read_bytes())["verdict"] == "VERIFIED"
    assert small.living() == []
