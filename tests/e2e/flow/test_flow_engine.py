"""The start of a run: with the right to it before everything else, without it all the same."""

import logging
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.engine import Brief
from flows.worker import await_server, command
from tasks.custody.errors import Denied, Refused
from tasks.host.rights import effective_capabilities
from tasks.system.cancellation import RunCancelled
from tasks.system.priority import NICE, OOM
from tests.support.workloads import free_port

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
SYS_RESOURCE = 24
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
    assert (module, name, int(nice)) == ("prefect.engine", "__main__", NICE)
    if AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1":
        assert int(group) == NICE


CARRIES_ON = """
import os
from pathlib import Path
import flows.command.by_hand, flows.deadline
group = Path("/proc/self/autogroup")
def told(*_):
    print(os.getpriority(os.PRIO_PROCESS, 0), group.read_text().split()[-1] if group.exists() else 0)
flows.command.by_hand.without_server = told
flows.deadline._act({"incident": "IR-20260102T030405Z"})
"""


@am_root
def test_what_carries_on_at_a_deadline_puts_itself_before_everything_else_too() -> None:
    """It lives in a session of its own, which has nothing of the priority of the run that started it."""
    command = [sys.executable, "-c", CARRIES_ON]
    done = subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True)
    nice, group = done.stdout.splitlines()[-1].split()
    assert int(nice) == NICE
    if AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1":
        assert int(group) == NICE


BRINGS_BACK = """
import os, sys
from pathlib import Path
from tasks.host.detached_process import start_program
from tasks.system.priority import take_priority
take_priority()
folder = Path(sys.argv[1])
orders = {"command": ["sleep", "600"], "root": folder, "user": 0, "environment": {"PATH": os.environ["PATH"]}}
started, _ = start_program(orders, folder / "log")
print(started.pid)
"""


@am_root
def test_what_a_run_brings_back_has_the_priority_of_everybody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BRINGS_BACK, str(tmp_path)]
    pid = int(subprocess.run(command, start_new_session=True, capture_output=True, text=True, check=True).stdout)
    try:
        assert os.getpriority(os.PRIO_PROCESS, pid) == 0
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "0"
        if AUTOGROUP.exists():
            assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "0"
    finally:
        os.kill(pid, signal.SIGKILL)


@am_root
def test_a_run_without_the_right_starts_all_the_same() -> None:
    module, _, nice, group = started("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert (module, int(nice), int(group)) == ("prefect.engine", os.getpriority(os.PRIO_PROCESS, 0), 0)


WORKER = """
import os, sys
from pathlib import Path
def become(program, arguments, environment):
    adjusted = int(Path("/proc/self/oom_score_adj").read_text())
    print(arguments[1:], os.getpriority(os.PRIO_PROCESS, 0), adjusted)
os.execve = become
import flows.worker
flows.worker.main(["--pool", "p"])
from tasks.system.priority import give_way
give_way()
print(os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/oom_score_adj").read_text())
"""


@am_root
def test_a_worker_stands_before_everything_and_a_training_of_it_gives_way() -> None:
    environment = {**os.environ, "PREFECT_API_URL": "http://name.invalid/api"}
    typed = [sys.executable, "-c", WORKER]
    told = subprocess.run(typed, env=environment, start_new_session=True, capture_output=True, text=True, check=True)
    spared = OOM if effective_capabilities() >> SYS_RESOURCE & 1 else 0
    words = ["-P", "-m", "prefect", "worker", "start", "--pool", "p", "--type", "evacuation"]
    assert told.stdout.splitlines()[:2] == [f"{words} {NICE} {spared}", "0 0"]


@pytest.mark.parametrize("typed", [("--type", "process"), ("-t", "process"), ("--type=process",)])
def test_a_worker_is_of_the_type_that_it_is_asked_for(typed: tuple[str, ...]) -> None:
    words = ["prefect", "worker", "start", "--pool", "p"]
    assert command(["--pool", "p", *typed]) == [*words, *typed]
    assert command(["--pool", "p"]) == [*words, "--type", "evacuation"]


def test_a_worker_that_serves_its_hosts_queue_has_the_hosts_name() -> None:
    words, host = ["prefect", "worker", "start"], socket.gethostname()
    typed = ["--pool", "evacuation", "--type", "evacuation"]
    for queue in (["--work-queue", host], [f"--work-queue={host}"], ["-q", host]):
        assert command(queue) == [*words, *queue, *typed, "--name", host]
        for name in (["--name", "w"], ["--name=w"], ["-n", "w"]):
            assert command([*queue, *name]) == [*words, *queue, *name, *typed]
    assert command(["-q", "fleet"]) == [*words, "-q", "fleet", *typed], "no sign of life of the host"


def test_a_worker_waits_for_a_server_that_is_still_starting() -> None:
    address = ("127.0.0.1", free_port())
    with ThreadPoolExecutor(1) as apart:
        waiting = apart.submit(await_server, f"http://127.0.0.1:{address[1]}/api")
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        with socket.create_server(address):
            waiting.result(20)


@pytest.mark.parametrize("address", ["", "https://name.invalid/api", "no address", "/api"])
def test_a_worker_leaves_other_trouble_with_its_server_to_prefect(address: str) -> None:
    await_server(address)


@pytest.mark.parametrize(
    ("error", "brief"),
    [
        (Refused("a", "b", "Do."), True),
        (Denied("a", "b", "Nothing.", "Do."), True),
        (RunCancelled("not begun"), True),
        (None, True),
        (KeyError("a fault"), False),
    ],
)
def test_an_error_of_ours_is_told_in_one_line_and_a_fault_in_full(
    error: Exception | None,
    brief: bool,  # noqa: FBT001  a column of the table
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Brief())
    about = (type(error), error, None) if error else (None, None, None)
    handler.handle(logging.makeLogRecord({"msg": "failed", "exc_info": about}))
    told = capsys.readouterr().err.splitlines()
    assert (len(told) == 1) == brief, told
    assert told[0].startswith("failed")
