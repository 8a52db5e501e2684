"""The drill's own engine: gone with us however we go, and its base image is made once."""

import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from threading import Thread

import pytest

from tests.support import made_once as module
from tests.support.docker_engine import DockerDaemon, base_rootfs
from tests.support.workloads import wait_until

PROJECT = Path(__file__).resolve().parents[3]
OWNER = """
import sys, time
from contextlib import closing
from pathlib import Path
from tests.support.docker_engine import BASE, DockerDaemon
engine = DockerDaemon(Path(sys.argv[1]))
engine.start()
with closing(engine.client()) as client:
    for paused in (False, True):
        id_ = client.create_container(BASE, ["sh", "-c", "trap exit TERM; sleep 600 & wait"])["Id"]
        client.start(id_)
        if paused:
            client.pause(id_)
print(engine.mark, flush=True)
time.sleep(600)
"""
DEBOOTSTRAP = """#!/bin/sh
for folder; do :; done
echo made >>"$CALLS"
mkdir -p "$folder/etc/ssl/certs" "$folder/usr/share/doc/x"
sleep 0.3
"""


def bridges() -> set[str]:
    return {place.name for place in Path("/sys/class/net").iterdir()}


@pytest.mark.soak
def test_an_engine_whose_owner_is_killed_leaves_nothing(
    engine: DockerDaemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("e")  # a socket's path may have 104 letters
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE)
    assert owner.stdout
    ghost = DockerDaemon(tmp_path)
    ghost.mark = owner.stdout.readline().decode().strip()
    assert ghost.mark in bridges()
    assert ghost.mark != engine.mark
    assert len(ghost.leftovers()) >= 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not ghost.leftovers(), 90, what="the end of all containers")
    wait_until(lambda: ghost.mark not in bridges(), 90, what="the end of the bridge")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    ghost.stop()
    assert engine.ready()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A debootstrap that counts its calls, and a cache of its own."""
    program = tmp_path / "bin/debootstrap"
    program.parent.mkdir()
    program.write_text(DEBOOTSTRAP)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return tmp_path / "calls"


def test_two_who_want_the_base_at_once_make_it_once(calls: Path) -> None:
    both = [Thread(target=base_rootfs) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert calls.read_text() == "made\n"
    with tarfile.open(base_rootfs()) as tar:
        assert "./var/lib/apt/lists/partial" in tar.getnames()
        assert "./usr/share/doc" not in tar.getnames()


def test_a_base_that_was_left_half_made_is_made_anew(calls: Path) -> None:
    made = base_rootfs()
    made.unlink()
    made.with_name(f"{made.name}.part").write_bytes(b"half")
    (made.with_name(f"{made.name}.making") / "rubbish").mkdir(parents=True)
    assert base_rootfs() == made
    with tarfile.open(made) as tar:
        assert "./rubbish" not in tar.getnames()
    assert calls.read_text() == "made\nmade\n"
    assert {path.name for path in made.parent.iterdir()} == {made.name, f"{made.name}.lock"}
