"""Reading a process while it ends."""

import subprocess
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
