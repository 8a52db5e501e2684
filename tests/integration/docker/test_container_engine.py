"""The door to the engine, on a real one, on one that hangs, on none, and on one that refuses us."""

import io
import os
import signal
import socket
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from tasks.custody.errors import ContainerGone, EngineError, EngineUnreachable
from tasks.custody.incident.log import CustodyLog
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import workload_containers
from tasks.host.container.rehearsal import RehearsalEngine
from tests.support.containers import IMAGE, Containers, build
from tests.support.docker_engine import BASE, DockerDaemon
from tests.support.workloads import wait_until

Act = Callable[[], object]
COUNTER = ["python3", "counter.py"]


@pytest.fixture
def door(engine: DockerDaemon) -> Iterator[DockerEngine]:
    with closing(DockerEngine(engine.host)) as door:
        yield door


def lines(door: DockerEngine, id_: str) -> list[bytes]:
    return b"".join(door.logs(id_)).splitlines()


def test_a_container_is_described(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(COUNTER, restart_policy={"Name": "always"}, stop_signal="SIGQUIT")
    container = door.get_container(id_)
    assert container
    assert (container.id, container.image, container.state) == (id_, IMAGE, "running")
    assert (container.restart, container.auto_remove, container.stop_signal) == ("always", False, "SIGQUIT")
    assert (container.folder, container.exit_code) == ("/app", None)
    assert container.labels["test"] == containers.mark
    assert b"counter.py" in Path(f"/proc/{container.pid}/cmdline").read_bytes()


@pytest.mark.whole
def test_the_living_are_listed_whatever_state_they_are_in(containers: Containers, door: DockerEngine) -> None:
    running, paused, exited = (containers.run(COUNTER) for _ in range(3))
    restarting = containers.run(["sh", "-c", "echo up"], restart_policy={"Name": "always"})
    containers.client.pause(paused)
    containers.client.kill(exited)
    wait_until(lambda: containers.state(restarting) == "restarting", what="the pause between two starts")
    found = workload_containers(door.containers([containers.asked]), [containers.asked], None)
    assert {container.id for container in found} == {running, paused, restarting}


@pytest.mark.whole
def test_the_children_of_an_image_are_its_containers_too(containers: Containers, door: DockerEngine) -> None:
    build(containers.engine, "patched:1", {"Dockerfile": f"FROM {IMAGE}\nLABEL patched=yes\n".encode()})
    child = containers.run(COUNTER, image="patched:1")
    stranger = containers.run(["sh", "-c", "echo up; sleep 60"], image=BASE)
    asked = [f"image={IMAGE}"]
    found = {container.id for container in workload_containers(door.containers(asked), asked, None)}
    assert child in found
    assert stranger not in found


@pytest.mark.whole
def test_an_image_that_has_lost_its_name_to_a_newer_one_still_has_its_containers(
    containers: Containers, door: DockerEngine
) -> None:
    tag = f"moving:{containers.mark}"
    for version in ("1", "2"):
        build(containers.engine, tag, {"Dockerfile": f"FROM {IMAGE}\nLABEL version={version}\n".encode()})
        containers.run(COUNTER, image=tag)
    asked = [f"image={tag}"]
    assert len(workload_containers(door.containers(asked), asked, None)) == 2


def test_a_paused_container_stands_still_and_paused_twice_is_paused(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(COUNTER)
    door.pause(id_)
    before = lines(door, id_)
    door.pause(id_)
    time.sleep(0.2)  # twenty lines' time
    assert containers.state(id_) == "paused"
    assert lines(door, id_) == before


def test_what_the_guard_pauses_at_the_same_moment_is_paused(
    containers: Containers, door: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the pause still sees it run."""
    id_ = containers.run(COUNTER)
    looks = iter([door.get_container(id_)])
    containers.client.pause(id_)
    really = door.get_container
    monkeypatch.setattr(door, "get_container", lambda asked: next(looks, None) or really(asked))
    door.pause(id_)
    ended = containers.run(["echo", "done"])
    wait_until(lambda: containers.state(ended) == "exited", what="its end")
    with pytest.raises(EngineError, match="not running"):
        door.pause(ended)


def test_what_the_engine_thaws_at_the_same_moment_is_thawed(
    containers: Containers, door: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look after the signal still sees it paused."""
    id_ = containers.run(COUNTER)
    door.pause(id_)
    looks = iter([door.get_container(id_)])
    containers.client.unpause(id_)
    really = door.get_container
    monkeypatch.setattr(door, "get_container", lambda asked: next(looks, None) or really(asked))
    door.signal(id_, "SIGINT")
    assert door.end_of(id_, 10) in {1, 130}


@pytest.mark.parametrize("image_stop_signal", [None, "SIGTERM", "SIGQUIT"])
def test_a_signal_to_a_paused_container_is_acted_on_before_anything_else(
    containers: Containers, door: DockerEngine, image_stop_signal: str | None
) -> None:
    """Moby thaws for the stop signal of the image only; for the caller there is no difference."""
    id_ = containers.run(COUNTER, stop_signal=image_stop_signal)
    door.pause(id_)
    before = len([line for line in lines(door, id_) if line.split()[-1].isdigit()])
    door.signal(id_, "SIGINT")
    assert door.end_of(id_, 10) in {1, 130}
    after = [line for line in lines(door, id_) if line.split()[-1].isdigit()]
    assert len(after) <= before + 1
    assert b"KeyboardInterrupt" in b"".join(lines(door, id_))


def test_killed_while_paused_it_says_no_more(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(COUNTER)
    door.pause(id_)
    before = lines(door, id_)
    door.signal(id_, "SIGKILL")
    assert door.end_of(id_, 10) == 128 + signal.SIGKILL
    assert lines(door, id_) == before


def test_one_that_does_not_end_is_waited_for_no_longer_than_asked(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(["python3", "stubborn.py"])
    door.signal(id_, "SIGTERM")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        door.end_of(id_, 0.5)
    assert 0.4 < time.monotonic() - began < 5


def test_what_always_restarts_does_not_when_that_is_forbidden_first(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(["sh", "-c", "echo up; sleep 60"], restart_policy={"Name": "always"})
    door.forbid_restart(id_)
    door.signal(id_, "SIGKILL")
    door.end_of(id_, 10)
    assert containers.state(id_) == "exited"
    after = door.get_container(id_)
    assert after
    assert (after.restart, after.exit_code) == ("no", 137)


def test_acts_on_a_container_that_is_gone_say_so(containers: Containers, door: DockerEngine) -> None:
    id_ = containers.run(COUNTER)
    containers.client.kill(id_)
    acts: list[Act] = [lambda: door.pause(id_), lambda: door.signal(id_, "SIGTERM")]
    for act in acts:
        with pytest.raises(ContainerGone):
            act()
    containers.client.remove_container(id_)
    assert door.get_container(id_) is None
    assert door.end_of(id_, 1) is None
    for act in [*acts, lambda: door.forbid_restart(id_), lambda: lines(door, id_)]:
        with pytest.raises(ContainerGone):
            act()


def test_files_come_from_the_layer_and_from_volumes_while_it_is_paused(
    containers: Containers, door: DockerEngine, tmp_path: Path
) -> None:
    (tmp_path / "bound.log").write_bytes(b"bound")
    binds = [f"{containers.mark}-models:/app/models", f"{tmp_path}:/app/logs"]
    write = "echo layer >/app/new; ln -s new /app/link; echo volume >/app/models/m; echo up; sleep 60"
    id_ = containers.run(["sh", "-c", write], binds=binds)
    door.pause(id_)
    for path, content in (("/app/new", b"layer\n"), ("/app/models/m", b"volume\n"), ("/app/logs/bound.log", b"bound")):
        archive = door.archive(id_, path)
        assert archive
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive.content))) as tar:
            extracted = tar.extractfile(tar.getnames()[0])
            assert extracted
            assert extracted.read() == content
    link = door.archive(id_, "/app/link")
    assert link
    assert link.link == "/app/new"
    assert door.archive(id_, "/app/nothing") is None
    assert {"Path": "/app/new", "Kind": 1} in door.diff(id_)
    assert any("sleep 60" in " ".join(row) for row in door.top(id_)["Processes"])


def test_a_container_is_made_again_as_it_was(containers: Containers, door: DockerEngine) -> None:
    first = containers.run(
        COUNTER,
        name=f"{containers.mark}-again",
        binds=[f"{containers.mark}-models:/app/models"],
        environment={"MODEL_PATH": "/app/models/m"},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        ports=True,
    )
    about = door.inspect(first)
    containers.client.remove_container(first, force=True)
    again = door.create(f"{containers.mark}-again", about)
    door.start(again)
    now = door.inspect(again)
    assert again != first
    assert now["Config"]["Hostname"] == again[:12]
    for part in ("Cmd", "Env", "Labels", "WorkingDir"):
        assert now["Config"][part] == about["Config"][part]
    assert now["HostConfig"] == about["HostConfig"]
    assert now["Image"] == about["Image"]


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable, match="No such file or directory"):
        DockerEngine(f"unix://{tmp_path}/none.sock").containers([])


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(EngineUnreachable, match="Connection refused"):
        DockerEngine(f"unix://{tmp_path}/dead.sock").get_container("x")


def test_an_engine_that_hangs_costs_seconds(tmp_path: Path) -> None:
    path = tmp_path / "hung.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        began = time.monotonic()
        with pytest.raises(EngineUnreachable, match=r"no answer within 0\.3 s"):
            DockerEngine(f"unix://{path}", 0.3).containers([])
        assert time.monotonic() - began < 10


def test_an_engine_may_take_longer_to_compare_a_container_with_its_image(tmp_path: Path) -> None:
    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_version = self.path.endswith("/version")
            if not is_version:
                time.sleep(0.6)  # twice the limit of any other answer
            body = b'{"ApiVersion": "1.41"}' if is_version else b'[{"Kind": 1, "Path": "/a"}]'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def address_string(self) -> str:
            return "engine"

    path = tmp_path / "slow.sock"
    with UnixStreamServer(str(path), Slow) as server, ThreadPoolExecutor() as pool:
        pool.submit(server.serve_forever)
        try:
            with closing(DockerEngine(f"unix://{path}", 0.3)) as engine:
                assert engine.diff("x") == [{"Kind": 1, "Path": "/a"}]
                with pytest.raises(EngineUnreachable, match=r"no answer within 0\.3 s"):
                    engine.inspect("x")
        finally:
            server.shutdown()


def test_a_socket_that_is_denied(engine: DockerDaemon) -> None:
    reading, writing = os.pipe()
    engine.socket.parent.chmod(0o711)
    engine.socket.chmod(0o600)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            DockerEngine(engine.host).containers([])
        except EngineError as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 4000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600
    assert "EngineUnreachable" in told
    assert "Permission denied" in told


def test_an_engine_that_is_named_by_the_environment(engine: DockerDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with closing(DockerEngine()) as door:
        assert door.place == engine.host
        door.containers([])
    monkeypatch.delenv("DOCKER_HOST")
    assert DockerEngine().place == "unix:///var/run/docker.sock"


def test_a_rehearsal_touches_nothing_and_writes_down_what_it_would(
    containers: Containers, door: DockerEngine, tmp_path: Path
) -> None:
    id_ = containers.run(COUNTER, restart_policy={"Name": "always"})
    before = door.inspect(id_)
    log = CustodyLog(tmp_path / "custody.jsonl", {})
    rehearsal = RehearsalEngine(door, log, {})
    rehearsal.pause(id_)
    paused = rehearsal.get_container(id_)
    assert paused
    assert paused.state == "paused"
    rehearsal.forbid_restart(id_)
    rehearsal.signal(id_, "SIGTERM")
    rehearsal.end_of(id_, 10)
    assert id_ not in {container.id for container in rehearsal.containers([containers.asked])}
    rehearsal.start(id_)
    rehearsal.create("again", before)
    after = door.inspect(id_)
    assert after["State"] == before["State"]
    assert after["HostConfig"] == before["HostConfig"]
    acts = [entry["act"] for entry in log.entries() if entry["action"] == "would"]
    assert acts == [
        "pause the container",
        "take its restart policy from the container",
        "SIGTERM to the container",
        "start the container",
        "make the container",
    ]
