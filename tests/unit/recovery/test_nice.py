"""A start that is nicer by itself does not make the API nicer from one recovery to the next."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.evidence.collect import collect
from tasks.host.process.table import start_of
from tasks.recovery.process_api import ProcessApi
from tests.support.run_context import case_of
from tests.support.workloads import wait_until

SLEEP = "time.sleep(600.75)"
THREADS = f"import threading, time; threading.Thread(target=lambda: {SLEEP}, daemon=True).start(); {SLEEP}"
SERVE = f"""
sleep 601.75 &
sh -c "sleep 602.75 & nice -n 2 sleep 603.75 & wait" &
exec nice -n 5 '{sys.executable}' -S -c "{THREADS}"
"""
AS_IT_RAN = {"601.75": {0}, "602.75": {0}, "603.75": {2}, "THREADS": {5}}


def family(pid: int) -> dict[str, set[int]]:
    """The nice values of each thread below a process, by the last word of the command."""
    found = dict[str, set[int]]()
    for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        line = each.cmdline() or [""]
        word = "THREADS" if THREADS in line else line[-1]
        if word == "THREADS" and len(each.threads()) < 2:
            return {}
        found[word] = {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in each.threads()}
    return {word: values for word, values in found.items() if word in AS_IT_RAN}


@contextmanager
def evacuated(root: Path, number: int, api: int) -> Iterator[ProcessApi]:
    """An incident of its own number, which has frozen this process and what descends from it."""
    block = Workload(root=root, lock=root.parent / "lock", api_command=["sh", "up.sh"])
    with case_of(block, incident=f"IR-2026010{number}T000000Z") as context:
        now, rows = datetime.now(UTC), [psutil.Process(api), *psutil.Process(api).children(recursive=True)]
        found = [Identity(each.pid, start_of(each.pid)) for each in rows]
        context.state.frozen.write([Frozen(each, "api", "x", os.geteuid(), now, now) for each in found])
        collect.fn(context, "tree")
        yield ProcessApi(context)


def refuse(*_: int) -> None:
    """As the kernel answers who may not."""
    raise PermissionError


def end_all(api: int) -> None:
    rows = [psutil.Process(api), *psutil.Process(api).children(recursive=True)]
    for each in rows:
        each.kill()
    psutil.wait_procs(rows, 10)


def start_again(way: ProcessApi, running: int) -> int:
    """End the API that runs, and start it as a recovery does; return its pid once all of it is there."""
    end_all(running)
    way.start()
    wait_until(lambda: family(way.identity.pid).keys() == AS_IT_RAN.keys(), what="all that it starts")
    return way.identity.pid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (root := tmp_path / "root").mkdir()
    (root / "up.sh").write_text(SERVE)
    return root


@pytest.fixture
def usual(root: Path) -> Iterator[int]:
    """The API as somebody starts it."""
    with psutil.Popen(["sh", "up.sh"], cwd=root, env={"PATH": os.environ["PATH"]}) as api:
        wait_until(lambda: family(api.pid) == AS_IT_RAN, what="the API")
        try:
            yield api.pid
        finally:
            if psutil.pid_exists(api.pid):
                end_all(api.pid)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a process less nice")
def test_each_recovery_gives_back_the_nice_values_of_the_freeze(root: Path, usual: int) -> None:
    """5 became 10, 15 and 19 from one recovery to the next, and the last one was green."""
    running = usual
    for number in range(1, 4):
        with evacuated(root, number, running) as way:
            running = start_again(way, running)
            assert way.find_doubt() == ""
            assert family(running) == AS_IT_RAN
            way.keep()
    end_all(running)


@pytest.mark.slow
def test_what_is_not_given_back_stays_a_doubt_until_it_is_mended(
    root: Path, usual: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "setpriority", refuse)
    running = usual
    for number in range(1, 4):
        with evacuated(root, number, running) as way:
            running = start_again(way, running)
            doubt = way.find_doubt()
            assert "by: nice" in doubt
            assert f"renice 5 -p $(ls /proc/{running}/task)" in doubt
            way.keep()
    monkeypatch.undo()
    if os.geteuid() == 0:  # as the message says
        for pid, nice in ((running, 5), *((each.pid, 0) for each in psutil.Process(running).children())):
            os.system(f"renice {nice} -p $(ls /proc/{pid}/task) >/dev/null")  # noqa: S605  the line as it is printed
        with evacuated(root, 4, running) as way:
            running = start_again(way, running)
            assert way.find_doubt() == ""
            way.keep()
    end_all(running)


@pytest.mark.slow
def test_one_that_was_started_by_hand_since_counts_as_it_runs(
    root: Path, usual: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, evacuated(root, 1, usual) as way:
        patch.setattr(os, "setpriority", refuse)
        start_again(way, usual)
        assert "by: nice" in way.find_doubt()
        way.keep()
        end_all(way.identity.pid)
    (root / "up.sh").write_text(f"exec nice -n 7 '{sys.executable}' -S -c '{THREADS}'")
    with psutil.Popen(["sh", "up.sh"], cwd=root, env={"PATH": os.environ["PATH"]}) as api:
        wait_until(lambda: family(api.pid) == {"THREADS": {7}}, what="the API")
        with evacuated(root, 2, api.pid) as way:
            end_all(api.pid)
            (root / "up.sh").write_text(f"exec '{sys.executable}' -S -c '{THREADS}'")
            way.start()
            wait_until(lambda: family(way.identity.pid).keys() == {"THREADS"}, what="the API again")
            assert way.find_doubt() == ""
            assert psutil.Process(way.identity.pid).nice() == 7
            end_all(way.identity.pid)
