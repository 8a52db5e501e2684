"""Reading a process while it ends."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.system import processes
from tests.support.workloads import wait_until


def test_one_that_ends_while_it_is_read_is_not_taken_for_one_that_may_not_be_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = processes._bytes
    with subprocess.Popen(["sleep", "600"]) as child:
        # in the middle of its exec it has none yet
        wait_until(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes(), what="its command line")

        def ends_then(where: int | str, name: str) -> bytes:
            data = read(where, name)
            if name == "cmdline":
                child.kill()
                child.wait()
            return data

        monkeypatch.setattr(processes, "_bytes", ends_then)
        process = processes.read_process(child.pid)
    assert process
    assert process.command == ("sleep", "600")
    assert not process.placeless


HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def headless() -> Iterator[int]:
    """A process whose main thread has exited, and which another thread keeps alive."""
    with subprocess.Popen([sys.executable, "-c", HEADLESS]) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        try:
            wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "Z", what="the main thread's end")
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize("name", ["stat", "status", "cmdline"])
@pytest.mark.parametrize("relays", [2, 10**9], ids=["twice", "always"])
def test_one_whose_threads_end_as_they_are_read_is_alive(
    headless: int, monkeypatch: pytest.MonkeyPatch, name: str, relays: int
) -> None:
    """One thread at a time that starts the next and exits was no process to each look, or a zombie."""
    read, met = processes._bytes, 0

    def ends_before(where: int | str, what: str) -> bytes:
        nonlocal met
        if "/task/" in str(where) and what == name and met < relays:
            met += 1
            raise FileNotFoundError
        return read(where, what)

    monkeypatch.setattr(processes, "_bytes", ends_before)
    process = processes.read_process(headless)
    assert process
    assert process.alive
    assert (process.command[-1:] == (HEADLESS,)) is (relays == 2)
