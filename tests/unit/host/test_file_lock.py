"""The lock's file lies where others may write: whatever they put in its place is neither followed nor waited for."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tasks.host import file_lock as lock

LEASE = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_RDONLY)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print("leased", flush=True)
time.sleep(600)
"""


def symlink(path: Path) -> None:
    (path.parent / "elsewhere").touch()
    path.symlink_to(path.parent / "elsewhere")


def hard_link(path: Path) -> None:
    (path.parent / "elsewhere").touch()
    path.hardlink_to(path.parent / "elsewhere")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


PLACED: dict[str, Callable[[Path], None]] = {
    "a link": symlink,
    "a second name": hard_link,
    "a dangling link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a folder": Path.mkdir,
    "a socket": listening,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    """Each open file has a lock of its own: another one of ours is as good as another process's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("what", PLACED)
def test_what_is_no_file_of_its_own_is_never_taken_for_the_lock(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.lock"
    PLACED[what](path)
    assert lock.take(path) is None
    assert not lock.refuses(path)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("what", ["a link", "a second name"])
def test_a_lock_on_a_file_of_somebody_else_refuses_nobody_from_ours(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.lock"
    PLACED[what](path)
    with locked_by_another(tmp_path / "elsewhere"):
        assert not lock.refuses(path)
        assert not lock.has_lock(os.getpid(), path) or what != "a link"


def test_a_lease_on_the_lock_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", LEASE, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"leased\n"
            began = time.monotonic()
            assert lock.take(path) is None
            assert time.monotonic() - began < 10
        finally:
            process.kill()


def test_a_plain_file_is_taken_and_refuses_others(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not lock.refuses(path)
    mine = lock.take(path)
    assert mine is not None
    assert lock.refuses(path)
    assert lock.has_lock(os.getpid(), path)
    os.close(mine)
    assert not lock.refuses(path)


@pytest.fixture
def _on_one_processor() -> Iterator[None]:
    """The kernel keeps a list for each: what is locked there stands before what was locked there earlier."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("_on_one_processor")
def test_a_lock_that_one_reading_of_the_kernels_list_passes_over_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the list page by page, and goes on by number: what is unlocked meanwhile hides what is locked.

    A guard on a busy host took a run that lived for dead, and froze again what that run had thawed to end it.
    """
    path, read, told = tmp_path / "a.lock", Path.read_text, list[str]()
    path.touch()
    with locked_by_another(path), ExitStack() as stack:
        for number in range(200):
            other = tmp_path / f"other-{number}"
            other.touch()
            stack.enter_context(locked_by_another(other))

        def torn(self: Path, *how: str) -> str:
            if self != Path("/proc/locks") or told:
                return read(self, *how)
            with self.open("rb", buffering=0) as file:
                page = file.read(4096)
                stack.close()
                told.append((page + file.read()).decode())
            return told[0]

        monkeypatch.setattr(Path, "read_text", torn)
        found = lock.taker(path)
        assert f":{path.stat().st_ino} " not in told[0]
        assert found
        assert found.pid == os.getpid()
