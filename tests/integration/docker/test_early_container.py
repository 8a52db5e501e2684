"""On a real engine: a start pauses containers with the processes, and whatever becomes of it they are given back."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command.freeze_before_import import freeze_before_import
from tasks.cli.uncordon import let_go
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.host.host import LinuxHost
from tasks.incident.layout import EARLY
from tasks.prestart.journal import read_early
from tests.support.containers import Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

COUNTER = ["python3", "counter.py"]
KILLED = """
import os, signal, sys
from flows.cli import run
from tasks.host.container.docker_engine import DockerEngine
act = DockerEngine.pause
def then_end(self, id_):
    act(self, id_)
    os.kill(os.getpid(), signal.SIGKILL)
DockerEngine.pause = then_end
sys.exit(run(["run", sys.argv[1]]))
"""


@pytest.fixture
def file(containers: Containers, small: SmallWorkload, tmp_path: Path) -> Path:
    block = containers.block(small)
    fields = {"root": str(small.root), "evidence_dir": str(block.evidence), "docker_host": block.docker_host}
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**fields, "containers": block.containers}.items()]
    (path := tmp_path / "evacuation.toml").write_text(
        "\n".join(["[workload.a]", *lines, "[store.a]", f'folder = "{tmp_path}"\n'])
    )
    return path


def test_a_run_by_hand_pauses_them_at_once_and_lets_go_if_it_is_cancelled(
    containers: Containers, small: SmallWorkload, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They computed on for three seconds, until Prefect was there."""
    id_ = containers.run(COUNTER)

    def cancelled() -> None:
        with freeze_before_import((str(file), "", None)):
            assert containers.state(id_) == "paused"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert containers.state(id_) == "running"
    assert "1 processes and containers" in capfd.readouterr().err
    assert not (small.block().evidence / EARLY).exists()


@pytest.mark.whole
@pytest.mark.parametrize("way", ["uncordon", "freeze, then thaw"])
def test_what_a_start_had_paused_before_it_was_killed_goes_on(
    containers: Containers, small: SmallWorkload, file: Path, way: str
) -> None:
    one, two = containers.run(COUNTER), containers.run(COUNTER)
    begun = subprocess.run([sys.executable, "-c", KILLED, file], capture_output=True, text=True, check=False)
    assert begun.returncode == -signal.SIGKILL, begun.stderr
    assert sorted([containers.state(one), containers.state(two)]) == ["paused", "running"]
    block = containers.block(small)
    if way == "uncordon":
        (line, *_) = let_go(block, LinuxHost(root=small.root))
        assert line.startswith("resumed, a run that died before it began")
    else:
        named = read_early(block.evidence / EARLY).containers
        with case_of(block) as context:
            frozen = made(freeze.fn(context)).containers
            assert {each.identity.id for each in frozen} == {one, two}
            assert not any(each.stood for each in frozen)
            assert any(each.paused_at == named[each.identity] for each in frozen)
            assert containers.state(one) == containers.state(two) == "paused"
            assert not (block.evidence / EARLY).exists()
            assert not made(thaw.fn(context)).stood
    assert [containers.state(one), containers.state(two)] == ["running", "running"]
    assert not (block.evidence / EARLY).exists()
