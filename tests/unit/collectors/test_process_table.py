"""The table of processes: who has ended and is not reaped is in it, who may not be looked at is counted."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.acquisition.collector import Incomplete, Target
from tasks.collectors import processes
from tasks.custody.evidence.acquisition import Outcome
from tests.support.workloads import wait_until

TARGET = Target("IR-20260102T030405Z", "/", "python", 0, {}, [])


@pytest.fixture
def zombie() -> Iterator[int]:
    with subprocess.Popen(["sleep", "0"]) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "Z", what="the zombie")
        yield process.pid


def row_of(pid: int, table: bytes) -> list[str]:
    (row,) = (line.split() for line in table.decode().splitlines() if line.split()[0] == str(pid))
    return row


def test_a_zombie_is_in_the_table(zombie: int) -> None:
    row = row_of(zombie, processes.make(TARGET))
    assert row[1] == str(os.getpid())
    assert row[5:] == ["[sleep]", "<defunct>"]


def test_processes_that_may_not_be_looked_at_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    of_ours = psutil.Process.cmdline

    def hidden(process: psutil.Process) -> list[str]:
        if process.pid != os.getpid():
            raise psutil.AccessDenied(process.pid)
        return of_ours(process)

    monkeypatch.setattr(psutil.Process, "cmdline", hidden)
    with pytest.raises(Incomplete, match=r"^[1-9]\d* processes may not be looked at$") as part:
        processes.make(TARGET)
    assert part.value.outcome is Outcome.DENIED
    assert row_of(os.getpid(), part.value.data)


def test_a_process_that_has_ended_meanwhile_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        gone = psutil.Process(process.pid)
        process.kill()
    monkeypatch.setattr(psutil, "process_iter", lambda: [gone, psutil.Process()])
    assert len(processes.make(TARGET).splitlines()) == 2
