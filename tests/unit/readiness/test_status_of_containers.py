"""The status knows the containers of the block: what runs in them is no suspect, and is not to be killed."""

import json
import socket
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.cli.status import Status, look
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.errors import EngineError
from tasks.deployment import register
from tasks.host.container import docker_engine
from tasks.host.container.membership import Container, find_mounts
from tasks.host.host import LinuxHost
from tasks.host.process.process import Process
from tasks.incident.directory import base_of
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_suspects
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload, wait_until, words_of

OURS, OTHER = "c" * 64, "d" * 64
API = Container(ContainerIdentity(OURS, "2026-01-01T00:00:00Z"), "api", "api:latest", "sha256:1", "running")


class Engine:
    """Docker, as far as the status asks it."""

    answers = True

    def __init__(self, *_: object) -> None:
        """Take any place."""

    def close(self) -> None:
        """Close nothing."""

    def containers(self, *_: object, **__: object) -> list[Container]:
        """Return one container, or fail."""
        if not self.answers:
            raise EngineError("an answer of Docker", "none", "It is not known.", "Start it.")
        return [API]


def look_at(small: SmallWorkload, container: str, names: Collection[str]) -> tuple[int, Status, CheckTarget]:
    """Start a training that runs in a container, and return its pid and what is said of it."""
    small.start(["setsid", "--fork", *small.training_command], WORKERS="0")  # it is no child of ours
    wait_until(lambda: any("src/train.py" in words_of(each)[:3] for each in small.living()), what="the training")
    (pid,) = (each.pid for each in small.living() if "src/train.py" in words_of(each)[:3])

    class Host(LinuxHost):
        def snapshot(self) -> dict[int, Process]:
            seen = super().snapshot().items()
            return {each: replace(at, container=container if each == pid else "") for each, at in seen}

    block = small.block(containers=list(names))
    target = CheckTarget("small", block, "store", {})
    vars(target).update(host=Host(root=small.root))
    return pid, look(block, Host(root=small.root)), target


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    """Docker that has the block's container."""
    monkeypatch.setattr(docker_engine, "DockerEngine", Engine)
    monkeypatch.setattr(Engine, "answers", True)
    return Engine


def test_what_runs_in_a_container_of_the_block_is_no_suspect_of_the_status(small: SmallWorkload) -> None:
    _, seen, _ = look_at(small, OURS, ["name=api"])
    assert not [each for each in seen.suspects if "src/train.py" in each]
    assert any("container api" in each for each in seen.containers)


@pytest.mark.parametrize("names", [["name=api"], []], ids=["another", "none"])
def test_what_runs_in_one_that_the_block_does_not_name_stays_a_suspect(small: SmallWorkload, names: list[str]) -> None:
    pid, seen, _ = look_at(small, OTHER, names)
    (line,) = (each for each in seen.suspects if each.startswith(f"process {pid}:"))
    assert "which the workload block does not name" in line


def test_of_an_engine_that_does_not_answer_it_is_said_and_nothing_in_a_container_is_to_be_killed(
    small: SmallWorkload, engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "answers", False)
    pid, seen, target = look_at(small, OURS, ["name=api"])
    (line,) = (each for each in seen.suspects if each.startswith(f"process {pid}:"))
    for told in (line, check_suspects(target).found, check_suspects(target).cure):
        assert "does not name" not in told
        assert "kill" not in told
    assert "not known" in line
    assert "not known" in check_suspects(target).found


def test_a_deployment_counts_no_process_of_a_container_of_the_block(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def judge(_host: object, _workload: object, ids: object) -> object:
        asked.append(ids)
        return SimpleNamespace(suspects={}, unknown={})

    monkeypatch.setattr(register, "load_block", lambda *_: small.block(containers=["name=api"]))
    monkeypatch.setattr(register, "roster_now", judge)
    target = SimpleNamespace(host=socket.gethostname(), workload="small")
    assert [*register.find_hindrances(target)] == []  # type: ignore[arg-type]
    assert asked == [[OURS]]


@pytest.mark.slow
@pytest.mark.parametrize("container", ["lives", "was paused by the incident"])
def test_who_writes_into_a_container_s_volume_of_models_is_a_suspect_of_the_status(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    volume, block = tmp_path / "volume", small.block(containers=["name=api"], models=["models/*.pkl"])
    volume.mkdir()
    mount = {"Type": "bind", "Source": str(volume), "Destination": "/app/models", "RW": True}
    details = {"Config": {"WorkingDir": "/app"}, "Mounts": [mount]}
    if container == "lives":
        living = replace(API, folder="/app", mounts=find_mounts(details))
        monkeypatch.setattr(Engine, "containers", lambda *_, **__: [living])
    else:
        base_of(block).mkdir(parents=True)
        (base_of(block) / f"container-{OURS}.json").write_text(json.dumps(details))
    code = "import time; kept = open('new.pkl', 'w'); open('ready', 'w'); time.sleep(60)"
    with apart([sys.executable, "-c", code], volume, volume / "ready") as writer:
        seen = look(block, LinuxHost(root=small.root))
        assert [each for each in seen.suspects if each.startswith(f"process {writer.pid}:")]
    assert not look(block, LinuxHost(root=small.root)).suspects
