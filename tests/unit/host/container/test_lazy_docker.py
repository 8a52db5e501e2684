"""Where Prefect has put a lazy module in docker's place, the engine's answers mean what they mean elsewhere."""

import json
import subprocess
import sys

import pytest

from tests.support.answering_api import api_that

LAZY = """
import importlib.util, sys
spec = importlib.util.find_spec("docker")
docker = sys.modules["docker"] = importlib.util.module_from_spec(spec)
importlib.util.LazyLoader(spec.loader).exec_module(docker)
"""
QUESTIONS = """
from tasks.custody.errors import EngineError
from tasks.host.container.docker_engine import DockerEngine
engine = DockerEngine(sys.argv[1])
try:
    print(engine.get_container("none"), engine.image("none"))
    engine.start("broken")
except EngineError as error:
    print(type(error).__name__, error.got)
"""
COPY = "import docker.errors\n"


def answers_to(program: str) -> list[str]:
    """What a process prints that asks an engine for a container and an image that are not there, and for a start."""
    nothing = json.dumps({"message": "No such thing"}).encode()
    rows = {
        "/version": (200, b'{"ApiVersion": "1.44"}'),
        "/v1.44/containers/none/json": (404, nothing),
        "/v1.44/images/none/json": (404, nothing),
        "/v1.44/containers/broken/start": (500, b'{"message": "no room"}'),
    }
    with api_that(rows) as api:
        place = api.url.replace("http://", "tcp://")
        done = subprocess.run([sys.executable, "-c", program, place], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_what_is_not_there_is_no_engine_that_cannot_be_reached() -> None:
    """The errors existed twice: those that the client raised were not those that were caught."""
    assert answers_to(LAZY + QUESTIONS) == ["None None", "EngineError no room"]


@pytest.mark.slow
def test_nor_is_it_where_somebody_else_has_loaded_the_errors_twice() -> None:
    assert answers_to(LAZY + COPY + QUESTIONS) == ["None None", "EngineError no room"]
