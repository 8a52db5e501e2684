"""Containers of one test, and the two images that are built from this repository while other tests run."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.containers import Containers, containers_of
from tests.support.docker_engine import DockerDaemon

PROJECT = Path(__file__).resolve().parents[3]
OURS = "evacuation:local"
IMAGES: Mapping[str, Path] = {"mlops-sklearn-portfolio:local": PROJECT / "examples/workload", OURS: PROJECT}
Image = Callable[[str], str]


@pytest.fixture
def containers(engine: DockerDaemon) -> Iterator[Containers]:
    """They end with the test."""
    with containers_of(engine) as containers:
        yield containers


def build(engine: DockerDaemon, name: str) -> str:
    """As a person types it; pip and uv reach their index over the host's network."""
    command = ["docker", "build", "--quiet", "--network", "host", "--tag", name, "."]
    environment = {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=IMAGES[name], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return name


@pytest.fixture(scope="session", autouse=True)
def building(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str]]]:
    """Begun with the first of the tests here, if any of those that were asked for needs an image."""
    wanted = any("image" in getattr(item, "fixturenames", ()) for item in request.session.items)
    with ThreadPoolExecutor(1) as pool:
        engine = request.getfixturevalue("engine") if wanted else None
        yield {OURS: pool.submit(build, engine, OURS)} if engine else {}


@pytest.fixture(scope="session")
def image(building: dict[str, Future[str]], engine: DockerDaemon) -> Image:
    """Wait for an image by its name. The sample's is only built when it is asked for: a soak test does."""
    return lambda name: building[name].result() if name in building else build(engine, name)
