"""Containers that the block does not name, on a real engine: each fact alone, and the same container without it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.containment.containers.unnamed import ask_engine
from tasks.containment.containment_check import check_containment
from tasks.custody.containment.receipt import Containment
from tasks.custody.errors import EngineError
from tasks.host.container.docker_engine import DockerEngine
from tests.support.containers import Containers
from tests.support.docker_engine import BASE
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

LOOP = ["sh", "-c", "echo up; while :; do sleep 0.2; done"]


def checked(block: Workload) -> Containment:
    with case_of(block) as context:
        return check_containment(context)


def unnamed(there: Containers, small: SmallWorkload, **changes: object) -> tuple[list[str], list[str]]:
    """What is told of the containers of this test, of a block that names none of them."""
    found = checked(there.block(small, **({"containers": []} | changes)))
    alive, notes = ([each for each in lines if there.mark in each] for lines in (found.alive, found.notes))
    return alive, notes


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def box(containers: Containers, *binds: str, **options: Any) -> str:
    return containers.run(options.pop("command", LOOP), binds=list(binds), **options)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("bind", "counts"),
    [
        ("{root}:/app", (1, 0)),
        ("{root}/..:/up", (1, 0)),
        ("{root}/logs:/logs", (1, 0)),
        ("{root}/link:/x", (1, 0)),
        ("{root}/models:/m:ro", (1, 0)),
        ("{root}:/app:ro", (1, 0)),
        ("{root}/logs:/logs:ro", (0, 1)),
        ("{other}:/app", (0, 0)),
    ],
)
def test_a_bind_mount(
    containers: Containers, small: SmallWorkload, tmp_path: Path, bind: str, counts: tuple[int, int]
) -> None:
    (small.root / "link").symlink_to(small.root / "artifacts")
    other = tmp_path / "other"
    other.mkdir()
    source, _, rest = bind.format(root=small.root, other=other).partition(":")
    id_ = box(containers, f"{os.path.normpath(source)}:{rest}")
    lines, notes = unnamed(containers, small)
    assert (len(lines), len(notes)) == counts
    assert all(id_[:12] in each for each in (*lines, *notes))
    assert all("docker stop" in each and 'containers = ["name=' in each for each in lines)
    assert containers.state(id_) == "running"


@pytest.mark.parametrize("bound", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_volume_whose_source_lies_in_the_root(
    containers: Containers, small: SmallWorkload, tmp_path: Path, *, bound: bool
) -> None:
    device = small.root / "artifacts" if bound else tmp_path / "other"
    device.mkdir(exist_ok=True)
    name = f"{containers.mark}-volume"
    options = {"type": "none", "o": "bind", "device": str(device)}
    containers.client.create_volume(name, driver_opts=options)
    box(containers, f"{name}:/data")
    lines, _ = unnamed(containers, small)
    assert len(lines) == int(bound)


@contextmanager
def paused(containers: Containers, id_: str) -> Iterator[None]:
    containers.client.pause(id_)
    try:
        yield
    finally:
        containers.client.unpause(id_)


def test_one_that_is_paused_and_one_between_two_starts(containers: Containers, small: SmallWorkload) -> None:
    id_ = box(containers, f"{small.root}:/app")
    with paused(containers, id_):
        assert len(unnamed(containers, small)[0]) == 1
    containers.client.remove_container(id_, force=True)
    assert unnamed(containers, small) == ([], [])
    again = box(containers, f"{small.root}:/app", command=["sh", "-c", "echo up"], restart_policy={"Name": "always"})
    wait_until(lambda: containers.state(again) == "restarting", what="the pause between two starts")
    assert len(unnamed(containers, small)[0]) == 1


def test_the_api_s_port(containers: Containers, small: SmallWorkload) -> None:
    box(containers, ports=True)
    lines, _ = unnamed(containers, small)
    assert len(lines) == 1
    assert f"it publishes the API's port {containers.port}" in lines[0]
    assert unnamed(containers, small, api_url=f"http://127.0.0.1:{small.port}")[0] == []


def test_a_process_that_matches_in_a_mount_of_the_code(containers: Containers, small: SmallWorkload) -> None:
    command = ["python3", *small.training_command[1:]]
    box(containers, f"{small.root}/src:/app/src:ro", command=command)
    lines, _ = unnamed(containers, small)
    assert any("matches and is in the root" in each for each in lines), lines


def test_another_program_in_a_mount_of_the_code_is_noted(containers: Containers, small: SmallWorkload) -> None:
    box(containers, f"{small.root}/src:/app/src:ro")
    assert [len(each) for each in unnamed(containers, small)] == [0, 1]


def test_what_the_block_names_is_a_member_and_no_suspect(containers: Containers, small: SmallWorkload) -> None:
    box(containers, f"{small.root}:/app")
    lines, _ = unnamed(containers, small, containers=[containers.asked])
    assert len(lines) == 1
    assert "not named" not in lines[0]


def test_an_image_s_children_are_named_by_it(containers: Containers, small: SmallWorkload) -> None:
    """The engine alone knows which images descend from the one that the block names."""
    box(containers, f"{small.root}:/app")
    lines, _ = unnamed(containers, small, containers=[f"image={BASE}"])
    assert len(lines) == 1
    assert "not named" not in lines[0]


@pytest.mark.parametrize("closed", ["the socket", "its folder"])
def test_an_engine_that_denies_says_so(containers: Containers, closed: str) -> None:
    engine = DockerEngine(containers.engine.host)
    place = containers.engine.socket if closed == "the socket" else containers.engine.folder
    mode = place.stat().st_mode
    place.chmod(0o600)
    try:
        with as_nobody(), pytest.raises((EngineError, PermissionError), match="Permission denied"):
            ask_engine(engine, ()).result(5)
    finally:
        place.chmod(mode)
    assert ask_engine(engine, ()).result(5) == []
    engine.close()
