"""Whoever reaches the server's API writes what he likes into deployment, run and pool: a worker runs none of it."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate

from tasks.incident.layout import EARLY
from tasks.system.declarations import VARIABLE
from tests.support.played import ENGINE, Played, play
from tests.support.scenes import Scene
from tests.support.workloads import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Evil:
    """A folder of the attacker's, whose code leaves a mark wherever it runs."""

    def __init__(self, folder: Path) -> None:
        """A module of each name that an interpreter imports at its start, or looks for beside itself."""
        self.folder, self.mark = folder / "evil", folder / "mark"
        (self.folder / "flows").mkdir(parents=True)
        code = f"open({str(self.mark)!r}, 'a').close()\n"
        for name in ("sitecustomize.py", "evil.py", "selectors.py", "flows/__init__.py"):
            (self.folder / name).write_text(code)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Pull steps that leave the mark."""
        return [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {self.mark}"}}]


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evil:
    """In a folder of the test's: Prefect's own worker would copy its code to where it is started."""
    monkeypatch.chdir(tmp_path)
    return Evil(tmp_path)


def update(played: Played, **fields: Any) -> None:
    """What an attacker changes of the deployment."""
    with get_client(sync_client=True) as client:
        client.update_deployment(played.deployment, DeploymentUpdate(**fields))


def command_of_the_run(played: Played, evil: Evil) -> str:
    return played.ended(played.trigger(job_variables={"command": f"touch {evil.mark}"}))


def command_of_the_deployment(played: Played, evil: Evil) -> str:
    update(played, job_variables={"command": f"sh -c 'touch {evil.mark}' -m flows.engine"})
    return played.ended(played.trigger())


def pull_steps(played: Played, evil: Evil) -> str:
    update(played, pull_steps=evil.steps)
    return played.ended(played.trigger())


def entrypoint(played: Played, evil: Evil) -> str:
    update(played, entrypoint=f"{evil.folder}/evil.py:evacuate", path=str(evil.folder))
    return played.ended(played.trigger())


@pytest.mark.whole
@pytest.mark.sample(2)
@pytest.mark.parametrize("attack", [command_of_the_run, command_of_the_deployment, pull_steps, entrypoint])
def test_what_is_no_run_of_ours_is_refused_and_leaves_the_workload_as_it_was(
    scene: Scene, evil: Evil, attack: Callable[[Played, Evil], str]
) -> None:
    scene.small.start_all()
    with play(scene) as played:
        told = attack(played, evil)
        assert told.startswith("Crashed"), told
        assert "Refused: expected" in told
        wait_until(lambda: not (scene.block.evidence / EARLY).exists(), what="the thaw")
        assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}
    assert not evil.mark.exists()


@pytest.mark.whole
@pytest.mark.parametrize("command", [ENGINE, pytest.param(ENGINE.replace("flows", "prefect"), marks=pytest.mark.soak)])
def test_a_run_of_ours_takes_neither_environment_nor_folder_from_the_server(
    scene: Scene, evil: Evil, command: str
) -> None:
    scene.small.start_all()
    path = f"{evil.folder}:{os.environ.get('PATH', os.defpath)}"
    variables = {"PYTHONPATH": str(evil.folder), "PATH": path, "PYTHONHOME": "/nowhere", "LD_PRELOAD": "/nowhere.so"}
    variables |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "EVACUATION_HOSTS": str(evil.folder)}
    with play(scene, command) as played:
        jobs = {"command": command, "env": variables, "working_dir": str(evil.folder)}
        told = played.ended(played.trigger(job_variables=jobs))
    assert told.startswith("Verified"), told
    assert not evil.mark.exists()


@pytest.mark.soak
def test_what_a_deployment_says_after_its_run_has_begun_is_not_asked(scene: Scene, evil: Evil) -> None:
    scene.small.start_all()
    with play(scene) as played:
        run = played.trigger()
        found = list[psutil.Process]()

        def has_begun() -> bool:
            found[:] = engine_of(run)
            return bool(found)

        wait_until(has_begun, what="the run's process")
        update(played, pull_steps=evil.steps, entrypoint=f"{evil.folder}/evil.py:evacuate")
        found[0].send_signal(signal.SIGKILL)
        assert played.ended(run).startswith("Crashed")
        wait_until(lambda: not played.worker._prepared, what="the worker's end of the run")
    assert not evil.mark.exists()


@pytest.mark.whole
def test_a_root_that_root_has_not_declared_is_refused_before_anything_is_touched(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts.d").mkdir()
    (own := tmp_path / "hosts.d/own.toml").write_text('root = "/srv/another"\n')
    own.chmod(0o644)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "hosts.d"))
    scene.small.start_all()
    with play(scene) as played:
        for alarm in (None, {"event": "training.failed", "occurred": datetime.now(UTC).isoformat()}):
            told = played.ended(played.trigger(parameters={"alarm": alarm}))
            assert "a root folder that root has declared" in told
            assert told.startswith("Failed"), told
            assert not scene.block.evidence.exists()
    assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}


def engine_of(run: Any) -> list[psutil.Process]:
    """The process of a run."""
    found = list[psutil.Process]()
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # of a busy worker some child ends at any moment
            if each.cmdline()[:1] == [sys.executable] and each.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                found.append(each)
    return found
