"""A collector's process is forked from a warm one: as an interpreter of its own would be, and lost like one."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import tasks.collectors.attempt as module
from tasks.acquisition.collector import Target
from tasks.collectors import discover
from tasks.collectors.attempt import attempt
from tasks.collectors.zygote import INTERPRETER, Forked, Zygote, start
from tests.support.workloads import SmallWorkload, wait_until


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    ours = Zygote()
    yield ours
    ours.end()


@pytest.fixture
def target(small: SmallWorkload) -> Target:
    globs: dict[str, list[str]] = {"logs": ["logs/*.log"], "artifacts": [], "models": ["models/*"]}
    return Target("IR-20260102T030405Z", str(small.root), "python", os.geteuid(), globs, [], seconds=60.0)


def waiting(zygote: Zygote, tmp_path: Path) -> tuple[Forked, int]:
    """A process that waits for the target on its standard input, and the descriptor by which it would come."""
    reads, writes = os.pipe()
    with (tmp_path / "out").open("wb") as out:
        forked = zygote.fork(["models", str(tmp_path)], [reads, out.fileno(), out.fileno()])
    os.close(reads)
    return forked, writes


@pytest.mark.parametrize("name", ["models", "logs", "scores", "environment"])
def test_it_tells_what_an_interpreter_of_its_own_tells(name: str, target: Target, tmp_path: Path) -> None:
    told = []
    for number, program in enumerate(((), INTERPRETER)):
        (tmp_path / str(number)).mkdir()
        lines, trouble = attempt(discover()[name], target, tmp_path / str(number), program=program)
        assert trouble is None
        told.append([{**line, "room": {}} for line in lines if name != "environment"] or len(lines))
    assert told[0] == told[1]


def test_it_has_the_environment_of_whoever_asked(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(discover()["disk"], target, tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    _, trouble = attempt(discover()["disk"], target, tmp_path)
    lines, _ = attempt(discover()["disk"], target, tmp_path)
    assert trouble is None
    assert [line["loss"]["reason"] for line in lines if "loss" in line] == ["df is not installed"] * 2


def test_it_leads_a_group_of_its_own_that_can_be_ended(zygote: Zygote, tmp_path: Path) -> None:
    forked, writes = waiting(zygote, tmp_path)
    assert os.getpgid(forked.pid) == os.getsid(forked.pid) == forked.pid
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    os.killpg(forked.pid, signal.SIGKILL)
    assert forked.wait(10) == -signal.SIGKILL
    os.close(writes)


def test_one_that_fails_says_why_as_an_interpreter_does(zygote: Zygote, tmp_path: Path) -> None:
    forked, writes = waiting(zygote, tmp_path)
    os.write(writes, b"no target")
    os.close(writes)
    assert forked.wait(10) == 1
    assert "JSONDecodeError" in (tmp_path / "out").read_text().splitlines()[-1]


def test_one_waits_for_no_other(zygote: Zygote, tmp_path: Path) -> None:
    slow, writes = waiting(zygote, tmp_path)
    quick, quicker = waiting(zygote, tmp_path)
    os.write(quicker, json.dumps("no target").encode())
    os.close(quicker)
    assert quick.wait(10) == 1
    os.close(writes)
    assert slow.wait(10) == 1


def test_whoever_loses_its_zygote_fails_and_the_next_has_a_new_one(zygote: Zygote, tmp_path: Path) -> None:
    forked, writes = waiting(zygote, tmp_path)
    assert zygote.pid
    os.kill(zygote.pid, signal.SIGKILL)
    assert forked.wait(10) == -1
    os.killpg(forked.pid, signal.SIGKILL)
    os.close(writes)
    again, writes = waiting(zygote, tmp_path)
    assert again.pid != forked.pid
    os.close(writes)
    assert again.wait(10) == 1


def test_without_one_an_interpreter_is_started(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> Forked:
        raise OSError("no more processes")

    monkeypatch.setattr(Zygote, "fork", refuses)
    started = list[int]()

    def seen(*given: object) -> object:
        process = start(*given)  # type: ignore[arg-type]
        started.append(process.pid)
        assert isinstance(process, subprocess.Popen)
        return process

    monkeypatch.setattr(module, "start", seen)
    lines, trouble = attempt(discover()["models"], target, tmp_path)
    assert trouble is None
    assert started
    assert any("file" in line for line in lines)


def test_one_that_was_given_up_as_it_stood_does_nothing(
    zygote: Zygote, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stood = list[int]()

    def late(line: socket.socket) -> Forked:
        stood.append(int(line.recv(100).split()[1]))
        raise TimeoutError

    monkeypatch.setattr("tasks.collectors.zygote.Forked", late)
    (tmp_path / "asked").write_text(json.dumps(asdict(target)))
    with (tmp_path / "asked").open("rb") as asked, (tmp_path / "told").open("w+b") as told:
        with pytest.raises(TimeoutError):
            zygote.fork(["models", str(tmp_path)], [asked.fileno(), told.fileno(), told.fileno()])
        wait_until(lambda: not Path(f"/proc/{stood[0]}").exists(), what="its end")
        told.seek(0)
        assert told.read() == b""


def test_one_that_is_waited_for_no_more_leaves_no_connection() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    with theirs:
        theirs.send(b"pid 1")
        forked = Forked(ours)
        with pytest.raises(subprocess.TimeoutExpired):
            forked.wait(0.001)
        del forked
        assert [theirs.recv(100), theirs.recv(100)] == [b"go", b""]


def test_it_ends_with_whoever_started_it(zygote: Zygote, tmp_path: Path) -> None:
    forked, writes = waiting(zygote, tmp_path)
    pid = zygote.pid
    zygote.end()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="its end")
    os.close(writes)
    assert forked.wait(10) == -1
    wait_until(lambda: not Path(f"/proc/{forked.pid}").exists(), what="the end of what it forked")
