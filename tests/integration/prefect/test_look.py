"""The look at the frozen processes: what each held, where its code stood, and one budget for all of it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import allow_failure, flow

from tasks.acquisition.collector import Incomplete, NothingThere
from tasks.collectors import discover, stacks, tree
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Freeze
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.evidence import collect as module
from tasks.evidence.collect import collect
from tasks.host.process.process import Process
from tasks.host.process.table import start_of
from tasks.runtime.context import RunContext
from tasks.runtime.freeze_budget import LOOK_SECONDS, FreezeBudget
from tasks.runtime.step import StepRunner, result_of
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tests.unit.acquisition.test_acquire import target

CANARY = "Zq7canaryX"
BUSY = """
import mmap, os, signal, socket, threading, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGUSR2, lambda *_: None)
served = socket.create_server(("127.0.0.1", 0))
asking = socket.create_connection(served.getsockname())
given, _ = served.accept()
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); heard.bind(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX); local.bind("a socket"); local.listen()
kept = open("kept open", "w"); kept.write("12345"); kept.flush()
with open("mapped", "w+b") as file:
    file.write(bytes(8192)); file.flush()
    held = mmap.mmap(file.fileno(), 8192)
os.unlink("mapped")
def a_function_in_a_thread():
    time.sleep(600)
threading.Thread(target=a_function_in_a_thread, name="searcher").start()
os.nice(3)
if os.fork() == 0:
    time.sleep(600)
open("ready", "w").write(f"{served.getsockname()[1]} {asking.getsockname()[1]} {heard.getsockname()[1]}")
def where_it_stood():
    while True:
        time.sleep(0.05)
where_it_stood()
"""


def evidence_of(context: RunContext, collector: str, budget: FreezeBudget | None = None) -> Evidence:
    made = collect.fn(context, collector, budget).data
    assert isinstance(made, Evidence)
    return made


def itself(pid: int) -> list[tuple[int, int]]:
    return [(pid, start_of(pid))]


def test_everything_that_a_process_held_is_in_the_tree(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(BUSY)
    training = small.start()
    wait_until(lambda: (small.root / "ready").exists() and (small.root / "ready").read_text(), what="the training")
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert evidence_of(context, "tree").outcome is Outcome.COLLECTED
        described = {
            one["pid"]: one for one in json.loads((context.directory.evidence_dir(1) / "tree.json").read_bytes())
        }
        drawn = (context.directory.evidence_dir(1) / "tree.txt").read_text().splitlines()
    one = described[training.pid]
    (child,) = one["children"]
    assert described[child]["parent"] == training.pid
    assert (one["state"], one["cwd"], one["root"], one["nice"]) == ("T (stopped)", str(small.root), "/", os.nice(0) + 3)
    assert (one["user"]["name"], one["user"]["uids"]) == (psutil.Process().username(), [str(os.geteuid())] * 4)
    assert one["started"].startswith(f"{time.gmtime().tm_year}-")
    assert len(one["threads"]) == 2
    assert one["memory"]["rss"] > 1 << 20
    assert one["cpu_seconds"]["user"] >= 0
    assert one["limits"]["Max open files"]["unit"] == "files"
    assert one["oom_score_adj"] == int(Path("/proc/self/oom_score_adj").read_text())
    assert one["namespaces"]["net"] == str(Path("/proc/self/ns/net").readlink())
    assert one["cgroup"] == Path("/proc/self/cgroup").read_text().splitlines()
    masks = {name: one["signals"][name]["names"] for name in ("SigIgn", "SigBlk", "SigCgt", "ShdPnd")}
    assert "SIGINT" in masks["SigIgn"]
    assert (masks["SigBlk"], masks["ShdPnd"]) == (["SIGUSR1"], ["SIGUSR1"])
    assert "SIGUSR2" in masks["SigCgt"]
    served, asking, heard = ((small.root / "ready").read_text()).split()
    sockets = {(each["kind"], each["state"], each["local"], each["peer"]) for each in one["sockets"]}
    assert sockets == {
        ("tcp", "listening", f"127.0.0.1:{served}", "0.0.0.0:0"),
        ("tcp", "established", f"127.0.0.1:{asking}", f"127.0.0.1:{served}"),
        ("tcp", "established", f"127.0.0.1:{served}", f"127.0.0.1:{asking}"),
        ("udp", "unconnected", f"127.0.0.1:{heard}", "0.0.0.0:0"),
        ("unix", "listening", "a socket", ""),
    }
    (kept,) = (file for file in one["open_files"] if file["to"] == str(small.root / "kept open"))
    assert kept["position"] == "5"
    (gone,) = (place for place in one["maps"] if place["path"] == str(small.root / "mapped"))
    assert gone["deleted"]
    assert gone["bytes"] == 8192
    assert [line.split()[0] for line in drawn[1:]] == [str(training.pid), str(child)]
    assert "\\_ venv/bin/python" in drawn[2]


def test_what_may_not_be_read_says_so_and_is_a_loss(tmp_path: Path) -> None:
    """As another user, who may look at nothing but what is public."""
    code = (
        "import json, os, sys; from tasks.collectors import tree, stacks\n"
        "from tests.integration.prefect.test_look import *\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for make in (tree.make, stacks.make):\n"
        "    try:\n        make(target(Path('/'), frozen=itself(int(sys.argv[1]))))\n"
        "    except Incomplete as part:\n        print(json.dumps([part.outcome, str(part), part.data.decode()]))\n"
    )
    places = {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(os.getpid())],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=True,
    )
    (outcome, reason, data), stacked = map(json.loads, done.stdout.splitlines())
    assert (outcome, stacked[0]) == ("denied", "denied")
    assert "environment" in reason
    (one,) = json.loads(data)
    assert one["environment"] == one["cwd"] == one["open_files"] == {"not read": "denied"}
    assert one["parent"] == os.getppid()
    assert "denied" in stacked[2]


def test_a_process_that_holds_a_great_many_things_does_not_fill_the_evidence() -> None:
    held = [os.dup(0) for _ in range(2100)]
    try:
        (one,) = json.loads(tree.make(target(Path("/"), frozen=itself(os.getpid()))))
    finally:
        for descriptor in held:
            os.close(descriptor)
    assert len(one["open_files"]) == 2001
    assert one["open_files"][-1] == {"not read": "more than 2000"}


@pytest.mark.parametrize("make", [tree.make, stacks.make])
def test_what_the_time_does_not_suffice_for_is_named(make: Callable[[Any], bytes]) -> None:
    with pytest.raises(Incomplete, match="the time was used up") as caught:
        make(replace(target(Path("/"), frozen=itself(os.getpid())), seconds=0.0))
    assert caught.value.outcome is Outcome.TIMED_OUT
    assert str(os.getpid()).encode() in caught.value.data


def test_no_command_line_can_forge_a_row_of_the_drawn_tree(small: SmallWorkload) -> None:
    small.start([*small.training_command, "\n       1        0 S     root  forged"], WORKERS="0")
    wait_until(lambda: len(small.living()) == 1, what="the training")
    with case_of(small.block()) as context:
        freeze.fn(context)
        evidence_of(context, "tree")
        drawn = (context.directory.evidence_dir(1) / "tree.txt").read_text()
    assert "src/train.py" in drawn
    assert "forged" not in drawn, "a word that nobody knows is hidden, with its line break"
    assert len(drawn.splitlines()) == 2


def test_a_chain_of_parents_without_end_is_drawn_too() -> None:
    processes = tree._down({pid: process_of(pid, pid - 1) for pid in range(2, 5000)})
    assert [depth for _, depth in processes] == list(range(4998))


def process_of(pid: int, parent: int) -> Process:
    return Process(Identity(pid, 1), parent, "T")


def test_python_stacks_are_taken_and_what_has_none_says_why(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(BUSY)
    training = small.start([*small.training_command, "--api-token", CANARY])
    wait_until((small.root / "ready").exists, what="the training")
    shell = small.start(["bash", "-c", "exec -a 'python -u src/train.py --mode full' sleep 600"])
    wait_until(lambda: psutil.Process(shell.pid).name() == "sleep", what="the impostor")
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert evidence_of(context, "stacks").outcome is Outcome.COLLECTED
        text = (context.directory.evidence_dir(1) / "stacks.txt").read_text()
    paragraphs = {part.partition(":")[0]: part for part in text.split("\n\n")}
    assert "where_it_stood (train.py:" in paragraphs[str(training.pid)]
    assert "a_function_in_a_thread (train.py:" in paragraphs[str(training.pid)]
    assert CANARY not in text
    assert paragraphs[str(shell.pid)].split("\n")[1].strip() == "not a Python process"


def test_without_py_spy_the_stacks_are_missing_with_the_reason(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "python").symlink_to(sys.executable)
    monkeypatch.setattr("sys.executable", str(bare / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NothingThere, match="extra 'stacks'"):
        stacks.make(target(small.root))


@pytest.mark.parametrize(
    ("script", "outcome", "words"),
    [
        ("exec sleep 600", Outcome.TIMED_OUT, "not done after 0.3 s"),
        ("echo 'Error: Permission Denied' >&2; exit 1", Outcome.DENIED, "Error: Permission Denied"),
        ("echo 'Error: no interpreter' >&2; exit 1", Outcome.FAILED, "Error: no interpreter"),
        ("exit 3", Outcome.FAILED, "py-spy ended with 3"),
    ],
)
def test_a_spy_that_does_not_get_through_is_an_outcome(
    tmp_path: Path, script: str, outcome: Outcome, words: str
) -> None:
    spy = tmp_path / "py-spy"
    spy.write_text(f"#!/bin/sh\n{script}\n")
    spy.chmod(0o755)
    limit = 0.3 if outcome is Outcome.TIMED_OUT else 30
    assert stacks.read_stacks(str(spy), os.getpid(), start_of(os.getpid()), limit) == (outcome, words)


def test_one_that_ends_under_the_spy_is_no_loss(tmp_path: Path) -> None:
    """A rehearsal freezes nobody, so the children of a training come and go."""
    spy = tmp_path / "py-spy"
    gone = "until grep -q 'State:.Z' /proc/$4/status; do :; done"
    spy.write_text(f"#!/bin/sh\nkill -9 $4\n{gone}\necho 'Error: No such process' >&2\nexit 1\n")
    spy.chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        wait_until(lambda: stacks.runs_python(child.pid), what="its Python")
        assert stacks.read_stacks(str(spy), child.pid, start_of(child.pid), 9) == (Outcome.EMPTY, "gone")


def test_the_reason_of_a_loss_has_no_trace(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (Outcome.FAILED, "Error: it is odd Caused by: x Stack backtrace: 0: anyhow::error 1: py_spy::dump")
    monkeypatch.setattr(stacks, "read_stacks", lambda *_: said)
    asked = replace(target(small.root), frozen=[(os.getpid(), start_of(os.getpid()))])
    with pytest.raises(Incomplete, match=r"1 processes: Error: it is odd Caused by: x$"):
        stacks.make(asked)


def test_a_process_that_is_gone_has_no_stack() -> None:
    assert stacks.read_stacks("/nowhere", os.getpid(), 1, 1) == (Outcome.EMPTY, "gone")


def test_gpus_are_asked_for_where_there_are_any(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text('#!/bin/sh\necho "$1"\n')
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with case_of(small.block()) as context:
        assert evidence_of(context, "gpu").outcome is Outcome.COLLECTED
        assert "memory.used" in (context.directory.evidence_dir(1) / "gpu.csv").read_text()
        assert "pid" in (context.directory.evidence_dir(1) / "gpu_processes.csv").read_text()


def test_sockets_of_the_host_are_told_with_everybody_who_holds_them(small: SmallWorkload) -> None:
    with socket.create_server(("127.0.0.1", 0)) as served, socket.create_connection(served.getsockname()) as asking:
        child = subprocess.Popen(["sleep", "600"], pass_fds=[served.fileno()])
        try:
            with case_of(small.block()) as context:
                assert evidence_of(context, "sockets").outcome is Outcome.COLLECTED
                rows = (context.directory.evidence_dir(1) / "sockets.txt").read_text().splitlines()
        finally:
            child.kill()
            child.wait()
        here, there = (f"127.0.0.1:{end.getsockname()[1]}" for end in (served, asking))
    (listening,) = (row for row in rows if row.split()[1:3] == ["listening", here])
    assert f"{os.getpid()} (" in listening
    assert f"{child.pid} (sleep 600)" in listening
    assert [row for row in rows if row.split()[1:4] == ["established", there, here]]


def test_a_budget_counts_from_when_all_stood_frozen() -> None:
    assert 19 < FreezeBudget.of(None).remaining() <= LOOK_SECONDS == 20
    for passed, left in ((0, 100), (40, 60), (200, 0), (-200, 100)):
        freeze = Freeze(datetime.now(UTC) - timedelta(seconds=passed), (), settled=True)
        assert left - 1 <= FreezeBudget.of(freeze, 100.0).remaining() <= left


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `disk` a look at frozen processes that hangs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "df").write_text("#!/bin/sh\nexec sleep 600\n")
    (folder / "df").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    known = discover()
    monkeypatch.setattr(module, "discover", lambda: known | {"disk": replace(known["disk"], while_frozen=True)})


@pytest.mark.usefixtures("hanging")
def test_an_attempt_has_what_is_left_of_the_budget_and_none_begins_without(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        budget = FreezeBudget.of(None, 3.0)
        began = time.monotonic()
        first, second = evidence_of(context, "disk", budget), evidence_of(context, "disk", budget)
        assert time.monotonic() - began < 60
        assert first.outcome is second.outcome is Outcome.TIMED_OUT
        assert first.reason.startswith("disk: not done after ")
        assert (second.ended_at - second.started_at).total_seconds() < 3
        assert second.reason == "disk: not begun: the 3 s for looking at the frozen processes were used up"
        assert evidence_of(context, "environment").outcome is Outcome.COLLECTED


@pytest.mark.usefixtures("prefect", "hanging")
def test_the_stop_waits_no_longer_than_the_budget(small: SmallWorkload) -> None:
    small.start(WORKERS="0")
    wait_until(lambda: len(small.living()) == 1, what="the training")
    with case_of(small.block()) as context, StepRunner(context):

        @flow(persist_result=False)
        def contain() -> None:
            frozen = freeze.submit()
            budget = FreezeBudget.of(result_of(frozen, Freeze), 1.5)
            looked = [collect.submit(name, budget, wait_for=[allow_failure(frozen)]) for name in ("disk", "tree")]
            stop.submit(wait_for=[allow_failure(looked)]).wait()

        contain()
        times = {(entry["action"], entry["object"][:4]): entry["utc"] for entry in context.log.entries()}
    froze, stopping = (
        datetime.fromisoformat(times[when]) for when in (("step done", "§2 f"), ("step started", "§3 s"))
    )
    assert 1 < (stopping - froze).total_seconds() < 60
    assert small.living() == []
