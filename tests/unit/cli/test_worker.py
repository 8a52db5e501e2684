"""The worker of a host: what is left out of its command line, and no worker without a server."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.worker import command, require_server
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import REFUSED
from tasks.deployment.register import worker_of

HOST = socket.gethostname()
START = ["prefect", "worker", "start"]
QUEUES = ["--work-queue", HOST, "--work-queue", f"{HOST}-training", "--work-queue", "people"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pool and no server."""
    for name in ("EVACUATION_POOL", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


def test_alone_it_is_the_line_that_deploy_prints() -> None:
    words = command([])
    assert words == [*START, "--pool", "evacuation", *QUEUES, "--type", "evacuation", "--name", HOST]
    printed = worker_of(HOST, "evacuation", sys.executable, ["people"]).split()
    assert sorted(words) == sorted(command(printed[printed.index("--pool") :]))


def test_the_pool_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVACUATION_POOL", "gpus")
    assert command([])[3:5] == ["--pool", "gpus"]
    assert command(["-p", "other"]) == [*START, "-p", "other", "--type", "evacuation"]


@pytest.mark.parametrize("pool", [["--pool", "p"], ["--pool=p"], ["-p", "p"]])
def test_a_pool_that_is_named_is_served_as_it_is_asked_for(pool: list[str]) -> None:
    assert command(pool) == [*START, *pool, "--type", "evacuation"]


@pytest.mark.parametrize("queue", [["--work-queue", "fleet"], ["--work-queue=fleet"], ["-q", "fleet"]])
def test_queues_that_are_named_are_the_only_ones(queue: list[str]) -> None:
    assert command(queue) == [*START, *queue, "--pool", "evacuation", "--type", "evacuation"]


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type it with a home of its own, where no profile lies unless a test has put one there."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "worker", *words],
        env={**os.environ, "PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "p.toml"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_without_a_server_it_says_so_and_starts_none(tmp_path: Path) -> None:
    done = typed(tmp_path)
    assert done.returncode == REFUSED
    assert done.stdout == ""
    assert "expected a Prefect server for the worker to serve; got none" in done.stderr
    assert "export PREFECT_API_URL=" in done.stderr
    assert "再実行" in done.stderr


def test_a_server_of_the_environment_is_asked_for_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://gpu1:4200/api")
    assert require_server() == "http://gpu1:4200/api"


def test_a_server_of_a_profile_counts() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://gpu2:4200/api"}):
        assert require_server() == "http://gpu2:4200/api"
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(Refused, match="PREFECT_API_URL"):
        require_server()
