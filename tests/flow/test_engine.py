"""The start of a run: with the right to it before everything else, without it all the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.engine import PRIORITY

INSTEAD = """
import gc, os, runpy
from pathlib import Path
def run(module, **how):
    group = Path("/proc/self/autogroup")
    place = group.read_text().split()[-1] if group.exists() else 0
    assert gc.isenabled()
    print(module, how["run_name"], os.getpriority(os.PRIO_PROCESS, 0), place)
import flows.engine
runpy.run_module = run
flows.engine.main()
"""
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to have the right, and to give it up")


def started(*launch: str) -> list[str]:
    """Start the engine in a session of its own; what Prefect's engine would find."""
    command = [*launch, sys.executable, "-c", INSTEAD]
    done = subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True)
    return done.stdout.split()


@am_root
def test_a_run_puts_itself_before_everything_else() -> None:
    module, name, nice, group = started()
    assert (module, name, int(nice)) == ("prefect.engine", "__main__", PRIORITY)
    if AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1":
        assert int(group) == PRIORITY


BRINGS_BACK = """
import os, sys
from pathlib import Path
import flows.engine
from tasks.launch import start_program
flows.engine.take_priority()
folder = Path(sys.argv[1])
started = start_program(["sleep", "600"], folder, folder / "log", 0, {"PATH": os.environ["PATH"]})
print(started.pid)
"""


@am_root
def test_what_a_run_brings_back_has_the_priority_of_everybody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BRINGS_BACK, str(tmp_path)]
    pid = int(subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True).stdout)
    try:
        assert os.getpriority(os.PRIO_PROCESS, pid) == 0
        if AUTOGROUP.exists():
            assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "0"
    finally:
        os.kill(pid, signal.SIGKILL)


@am_root
def test_a_run_without_the_right_starts_all_the_same() -> None:
    module, _, nice, group = started("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert (module, int(nice), int(group)) == ("prefect.engine", os.getpriority(os.PRIO_PROCESS, 0), 0)
