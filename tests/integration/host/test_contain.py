"""§1-§3 on real processes: the small workload, hard cases, and what must never be touched."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import psutil
import pytest

from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.members import Membership
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End
from tasks.host.host import LinuxHost
from tasks.host.process.process import Process, process_line
from tasks.host.process.table import read_process, start_of
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, open_the_way, wait_until

if TYPE_CHECKING:
    from tasks.custody.containment.receipt import Containment, Freeze, Stop

STUBBORN = """
import signal, sys, time
for name in sys.argv[2:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
open("ready-" + str(__import__("os").getpid()), "w").close()
while True:
    time.sleep(0.05)
"""


def start_ending_by(small: SmallWorkload, act: str, *by: str) -> subprocess.Popen[bytes]:
    """A training that is at work and ends by this when it gets SIGINT; `by` is the program that starts it, if any."""
    (small.root / "src/train.py").write_text(
        "import os, signal, subprocess, sys, time\n"
        f"def end(*_):\n{indent(act, '    ')}\n"
        "signal.signal(signal.SIGINT, end)\nopen('ready', 'w').close()\n"
        "while True:\n    time.sleep(0.05)\n"
    )
    training = small.start([*by, *small.training_command])
    wait_until((small.root / "ready").exists, what="the training's start")
    return training


def stubborn(small: SmallWorkload, *ignored: str) -> subprocess.Popen[bytes]:
    """A training process that ignores signals."""
    (small.root / "src/train.py").write_text(STUBBORN)
    process = small.start(["venv/bin/python", "-u", "src/train.py", "--mode full", *ignored])
    wait_until((small.root / f"ready-{process.pid}").exists, what="the training's start")
    return process


def alive(pid: int) -> bool:
    process = read_process(pid)
    assert process
    return process.alive


def states(processes: list[psutil.Process]) -> set[str]:
    return {process.status() for process in processes}


@pytest.mark.whole
def test_the_whole_workload_is_frozen_then_stopped_with_a_receipt_each(small: SmallWorkload) -> None:
    small.start_all(workers=3)
    before = small.living()
    assert len(before) == 5
    with case_of(small.block()) as context:
        assert made(cordon.fn(context)).held
        frozen: Freeze = made(freeze.fn(context))
        assert states(before) == {psutil.STATUS_STOPPED}
        assert {process.identity.pid for process in frozen.processes} == {process.pid for process in before}
        assert {process.role for process in frozen.processes} == {"api", "training"}
        stopped: Stop = made(stop.fn(context))
        contained: Containment = made(prove_contained.fn(context))
    assert small.living() == []
    assert {receipt.identity.pid for receipt in stopped.processes} == {process.pid for process in before}
    assert all(receipt.end is End.STOPPED for receipt in stopped.processes)
    assert all([name for name, _ in receipt.signals] == ["SIGINT", "SIGCONT"] for receipt in stopped.processes)
    assert contained.is_contained


@pytest.mark.whole
def test_nothing_to_stop_is_a_result(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        assert made(freeze.fn(context)).processes == ()
        assert made(stop.fn(context)).summary == "nothing to stop"
        assert made(prove_contained.fn(context)).is_contained
        assert [entry for entry in context.log.entries() if entry.get("result") == "nothing to stop"]


def test_a_matching_process_outside_the_root_is_left_alone(small: SmallWorkload, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    with SmallWorkload(outside) as other:
        other.port = small.port
        other.start_all()
        with case_of(small.block()) as context:
            assert made(freeze.fn(context)).processes == ()
        assert psutil.STATUS_STOPPED not in states(other.living())


def test_a_process_that_only_looks_like_the_workload_is_named(small: SmallWorkload, tmp_path: Path) -> None:
    with SmallWorkload(tmp_path / "elsewhere") as other, case_of(small.block()) as context:
        other.port = small.port
        other.start(["setsid", "--fork", *other.training_command])
        wait_until(lambda: len(other.living()) == 3, what="the training's start")
        named = made(prove_contained.fn(context)).left_alone
        for process in other.living():
            assert [text for text in named if text.startswith(f"{process.pid}: ")]


def test_the_workloads_own_interpreter_is_enough_of_a_place(small: SmallWorkload) -> None:
    interpreter = str(small.root / "venv/bin/python")
    script = str(small.root / "src/train.py")
    training = subprocess.Popen([interpreter, "-u", script, "--dataset", "builtin", "--mode", "full"], cwd="/")
    anywhere = r"python\S* -u .*src/train\.py .*--mode full"
    try:
        with case_of(small.block(training_pattern=anywhere)) as context:
            wait_until(lambda: "--mode" in psutil.Process(training.pid).cmdline(), what="its start")
            assert training.pid in {process.identity.pid for process in made(freeze.fn(context)).processes}
            made(stop.fn(context))
        assert training.wait(10) != 0
    finally:
        training.kill()


def test_a_process_that_quotes_the_pattern_is_left_alone(small: SmallWorkload) -> None:
    reader = small.start(["tail", "-f", "/dev/null", "src/train.py", "python -u src/train.py --mode full"])
    with case_of(small.block()) as context:
        assert made(freeze.fn(context)).processes == ()
    assert reader.poll() is None


def in_a_process_of_its_own(
    small: SmallWorkload, expression: str, *, launch: Sequence[str] = (), first: str = "", cwd: Path | None = None
) -> str:
    """Evaluate an expression over a case in another process, started by `launch`; what it prints."""
    code = (
        "import _strptime, os, sys; from pathlib import Path; from tests.support.run_context import case_of\n"
        "from tests.support.workloads import SmallWorkload\n"
        "from tasks.containment.containment_check import prove_contained\nfrom tasks.containment.freeze import freeze\n"
        f"{first}\n"
        f"w = SmallWorkload.__new__(SmallWorkload); w.root, w.port = Path(sys.argv[1]), {small.port}\n"
        "with case_of(w.block(evidence_dir=Path(sys.argv[2]))) as case:\n"
        f"    print({expression})\n"
    )
    shared = small.root.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    open_the_way(small.root.parent)
    places = {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(shared), "HOME": str(shared)}
    done = subprocess.run(
        [*launch, sys.executable, "-c", code, str(small.root), str(shared / "evidence")],
        env={**os.environ, **places},
        cwd=cwd or "/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def launched_by_the_training(small: SmallWorkload, expression: str) -> str:
    """The same, as a training that starts its own evacuation would."""
    launcher = "import subprocess, sys\nsys.exit(subprocess.run(sys.argv[3:]).returncode)\n"
    (small.root / "src/train.py").write_text(launcher)
    launch = [str(small.root / "venv/bin/python"), "-u", "src/train.py", "--mode full", ""]
    return in_a_process_of_its_own(small, expression, launch=launch, cwd=small.root)


@pytest.mark.whole
def test_our_own_ancestor_is_never_frozen(small: SmallWorkload) -> None:
    assert launched_by_the_training(small, "len(freeze.fn(case).data.processes)") == "0\n"


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("ignored", "end", "signals"),
    [
        ((), End.STOPPED, ["SIGINT", "SIGCONT"]),
        (("SIGINT",), End.STOPPED, ["SIGTERM", "SIGCONT"]),
        (("SIGINT", "SIGTERM"), End.KILLED, ["SIGCONT", "SIGKILL"]),
    ],
)
def test_the_signal_is_the_one_that_the_process_heeds(
    small: SmallWorkload, ignored: tuple[str, ...], end: End, signals: list[str]
) -> None:
    stubborn(small, *ignored)
    with case_of(small.block(grace_seconds=0.5 if end is End.KILLED else 30)) as context:
        freeze.fn(context)
        (receipt,) = made(stop.fn(context)).processes
    assert (receipt.end, [name for name, _ in receipt.signals]) == (end, signals)
    assert small.living() == []


def test_workers_orphaned_by_a_killed_parent_are_found(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', 'joblib.externals.loky.backend'])\n"
        "time.sleep(600)\n"
    )
    parent = small.start()
    wait_until(lambda: psutil.Process(parent.pid).children(), what="the worker")
    (worker,) = psutil.Process(parent.pid).children()
    wait_until(lambda: "joblib.externals.loky.backend" in worker.cmdline(), what="the worker's command line")
    parent.kill()
    parent.wait()
    with case_of(small.block()) as context:
        frozen: Freeze = made(freeze.fn(context))
        assert [(process.identity.pid, process.role) for process in frozen.processes] == [(worker.pid, "worker")]
        stop.fn(context)
    assert small.living() == []


def test_a_tree_that_forks_as_fast_as_it_can_is_frozen_whole(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(
        "import os, time\nmost = len(os.listdir('/proc')) + 400\nfor _ in range(60):\n    if os.fork() == 0:\n"
        "        pass\n    time.sleep(0.002)\n    if len(os.listdir('/proc')) > most:\n        break\ntime.sleep(600)\n"
    )
    small.start()
    wait_until(lambda: len(small.living()) > 8, what="the first forks")
    with case_of(small.block(grace_seconds=1)) as context:
        freeze.fn(context)
        assert states(small.living()) == {psutil.STATUS_STOPPED}
        stop.fn(context)
        assert small.living() == []


@contextmanager
def chained(small: SmallWorkload, length: int) -> Iterator[None]:
    """A training whose descendants are each the child of the one before."""
    (small.root / "chain.sh").write_text(
        'if [ "$1" -gt 0 ]; then sh chain.sh $(($1 - 1)) & else : > bottom; fi\nexec sleep 600\n'
    )
    (small.root / "src/train.py").write_text(
        f"import subprocess, time\nsubprocess.Popen(['sh', 'chain.sh', '{length - 2}'])\ntime.sleep(600)\n"
    )
    top = small.start().pid
    wait_until((small.root / "bottom").exists, what="the last of the chain")
    wait_until(lambda: {each.name() for each in small.living() if each.pid != top} == {"sleep"}, what="a chain at rest")
    yield


def test_everybody_is_stopped_before_anybody_is_described(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Describing takes time, in which the rest of a deep tree computed on."""
    events = []
    signalled = LinuxHost.signal

    def signalling(host: LinuxHost, identity: Identity, number: signal.Signals) -> None:
        events.append("signal")
        signalled(host, identity, number)

    def telling(each: Process) -> str:
        events.append("told")
        return process_line(each)

    monkeypatch.setattr(LinuxHost, "signal", signalling)
    monkeypatch.setattr("tasks.containment.freeze.process_line", telling)
    with chained(small, 40), case_of(small.block()) as context:
        receipts = made(freeze.fn(context)).processes
        assert events == ["signal"] * 40 + ["told"] * 40
        context.run = replace(context.run, policy="kill")
        stop.fn(context)
    times = [receipt.frozen_at for receipt in sorted(receipts, key=lambda each: len(each.lineage))]
    assert times == sorted(times, key=str)
    assert all(receipt.command and receipt.why and receipt.lineage for receipt in receipts)


@pytest.mark.whole
def test_more_processes_than_files_that_may_be_open_are_waited_for(small: SmallWorkload) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with chained(small, 330), case_of(small.block()) as context:
        context.run = replace(context.run, policy="kill")
        freeze.fn(context)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 280, hard))
        try:
            assert made(stop.fn(context)).summary == "330 killed"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert small.living() == []


def test_a_reused_pid_is_never_signalled(small: SmallWorkload) -> None:
    bystander = small.start(["sleep", "600"])
    stale = Identity(bystander.pid, start_of(bystander.pid) - 1)
    with pytest.raises(ProcessLookupError):
        LinuxHost().signal(stale, signal.SIGKILL)
    assert bystander.poll() is None


def test_a_zombie_counts_as_gone_but_a_dead_main_thread_with_living_threads_does_not(small: SmallWorkload) -> None:
    code = (
        "import threading, time, ctypes\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    hidden = small.start([sys.executable, "-c", code])
    wait_until(lambda: Path(f"/proc/{hidden.pid}/stat").read_text().split()[2] == "Z", what="the main thread's end")
    assert alive(hidden.pid)
    hidden.kill()
    ended = small.start(["true"])
    wait_until(lambda: Path(f"/proc/{ended.pid}/stat").read_text().split()[2] == "Z", what="the zombie")
    assert not alive(ended.pid)


@pytest.mark.soak
def test_a_second_run_keeps_the_receipts_of_the_first(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        freeze.fn(context)
        first: Stop = made(stop.fn(context))
    with case_of(small.block()) as context:
        assert len(made(freeze.fn(context)).processes) == len(first.processes)
        assert made(stop.fn(context)).processes == first.processes


def test_frozen_by_a_run_that_died_is_stopped_by_the_next(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        freeze.fn(context)
    assert states(small.living()) == {psutil.STATUS_STOPPED}
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert {receipt.end for receipt in made(stop.fn(context)).processes} == {End.STOPPED}
    assert small.living() == []


def test_new_life_is_seen_by_the_check(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        cordon.fn(context)
        contained: Containment = made(prove_contained.fn(context))
        assert not contained.is_contained
        assert len(contained.alive) == 4


@pytest.mark.whole
def test_a_dry_run_names_everything_and_touches_nothing(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block(), dry_run=True) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
        would = [(entry["act"], entry["object"]) for entry in context.log.entries() if entry["action"] == "would"]
    assert len(small.living()) == 4
    assert psutil.STATUS_STOPPED not in states(small.living())
    assert not context.workload.lock.exists()
    for process in small.living():
        assert ("SIGSTOP", str(process.pid)) in would
        assert ("SIGINT", str(process.pid)) in would


@pytest.mark.whole
def test_what_the_workload_could_not_protect_from_us_is_told_as_survivor(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.start_all()

    def denied(_: LinuxHost, identity: Identity, number: signal.Signals) -> None:
        raise PermissionError(identity.pid, number)

    monkeypatch.setattr(LinuxHost, "signal", denied)
    monkeypatch.setattr(LinuxHost, "group", lambda *_: None)
    monkeypatch.setattr("tasks.containment.freeze._SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("tasks.containment.stop._SETTLE_SECONDS", 0.01)
    with case_of(small.block(grace_seconds=0.2)) as context:
        frozen: Freeze = made(freeze.fn(context))
        assert not frozen.is_complete
        assert "denied" in frozen.summary
        stopped: Stop = made(stop.fn(context))
        assert {receipt.end for receipt in stopped.processes} == {End.SURVIVED}
        assert not made(prove_contained.fn(context)).is_contained
        monkeypatch.undo()


@pytest.mark.soak
def test_find_spares_what_our_own_recovery_started(small: SmallWorkload) -> None:
    api = small.start(small.api_command)
    wait_until(small.healthy, what="the API's answer")
    with case_of(small.block()) as context:
        assert [identity.pid for identity in Membership(context).members(context.adapters.host.snapshot())] == [api.pid]
        context.state.recovered.write([Identity(api.pid, start_of(api.pid))])
        assert Membership(context).members(context.adapters.host.snapshot()) == {}


@pytest.mark.whole
def test_a_helper_that_a_process_needs_to_end_is_left_to_work(small: SmallWorkload) -> None:
    start_ending_by(small, "subprocess.run(['sleep', '0.5'], check=True)\nopen('saved', 'w').close()\nsys.exit(0)")
    with case_of(small.block(grace_seconds=20)) as context:
        freeze.fn(context)
        ends = {receipt.command.split()[0]: receipt.end for receipt in made(stop.fn(context)).processes}
    assert End.KILLED not in ends.values()
    assert (small.root / "saved").exists()


@pytest.mark.whole
@pytest.mark.parametrize("guarded", [False, True])
def test_a_helper_that_is_still_the_copy_of_who_starts_it_is_left_to_become_one(
    small: SmallWorkload, *, guarded: bool
) -> None:
    """Between fork and exec it has the training's own command line; frozen there it kept the training from its end."""
    training = start_ending_by(
        small,
        "if os.fork() == 0:\n    time.sleep(1.5)\n    os.execlp('true', 'true')\n"
        "os.wait()\nopen('saved', 'w').close()\nsys.exit(0)",
    )
    with case_of(small.block(grace_seconds=20)) as context:
        freeze.fn(context)
        if guarded:  # only now: a guard that stands before the freeze may meet the training first
            cordon.fn(context)
            assert IncidentCordon(context).wait().held
        ends = {receipt.identity.pid: receipt.end for receipt in made(stop.fn(context)).processes}
        assert not context.cordon_files.caught.exists()
    assert (small.root / "saved").exists()
    assert ends.pop(training.pid) is End.STOPPED
    assert list(ends.values()) == [End.GONE]


def test_a_copy_that_outlives_who_forked_it_is_held_and_ended(small: SmallWorkload) -> None:
    start_ending_by(
        small,
        "if os.fork():\n    sys.exit(0)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)",
        "setsid",
        "--fork",
    )
    with case_of(small.block(grace_seconds=60)) as context:
        freeze.fn(context)
        told = {receipt.end: [name for name, _ in receipt.signals] for receipt in made(stop.fn(context)).processes}
    assert told == {End.STOPPED: ["SIGINT", "SIGCONT"], End.KILLED: ["SIGSTOP", "SIGKILL"]}
    assert small.living() == []


def test_a_training_that_is_started_anew_during_the_stop_is_ended_too(small: SmallWorkload) -> None:
    small.start(
        ["bash", "-c", "while true; do venv/bin/python -u src/train.py --dataset builtin --mode full; done"],
        WORKERS="1",
    )
    wait_until(lambda: len(small.living()) == 3, what="the training and its supervisor")
    with case_of(small.block(grace_seconds=1)) as context:
        freeze.fn(context)
        stop.fn(context)
        cordon.fn(context)
        assert made(prove_contained.fn(context)).is_contained
    assert small.living() == []


@pytest.mark.whole
@pytest.mark.parametrize("trap", ["", "trap '' INT TERM; "])
def test_a_loop_that_starts_it_again_takes_no_grace(small: SmallWorkload, trap: str) -> None:
    """It took SIGINT for its child's, which ended well, and waited for the next one, which was held, to the end."""
    (small.root / "src/train.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(0))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nopen('ready', 'w').close()\ntime.sleep(600)\n"
    )
    small.start(["bash", "-c", f"{trap}while true; do venv/bin/python -u src/train.py --mode full; done"])
    wait_until((small.root / "ready").exists, what="the training's start")
    with case_of(small.block(grace_seconds=60)) as context:
        freeze.fn(context)
        began = time.monotonic()
        assert made(stop.fn(context)).is_complete
        assert time.monotonic() - began < 60 / 2
        cordon.fn(context)
        assert made(prove_contained.fn(context)).is_contained


def test_a_root_that_is_a_link_is_still_the_workloads_root(small: SmallWorkload, tmp_path: Path) -> None:
    small.start_all()
    (tmp_path / "current").symlink_to(small.root)
    with case_of(small.block(root=tmp_path / "current")) as context:
        freeze.fn(context)
        stop.fn(context)
    assert small.living() == []


@pytest.mark.whole
def test_a_match_whose_place_may_not_be_read_is_not_contained(small: SmallWorkload) -> None:
    """Another user's process: an unprivileged evacuation must not take "unreadable" for "elsewhere"."""
    small.start(small.training_command)
    wait_until(lambda: len(small.living()) == 3, what="the training")
    nobody = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    assert "is not readable" in in_a_process_of_its_own(small, "prove_contained.fn(case).data.alive", first=nobody)


@pytest.mark.whole
def test_a_helper_left_behind_by_a_dying_training_is_ended_or_told(small: SmallWorkload) -> None:
    start_ending_by(
        small, "subprocess.Popen(['sleep', '600'], start_new_session=True)\nsys.exit(0)", "setsid", "--fork"
    )
    with case_of(small.block(grace_seconds=2)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        seen = made(prove_contained.fn(context))
    left = {f"{each.pid}: sleep 600 (it was started in the root after the freeze)" for each in small.living()}
    assert set(seen.alive) == left  # one that no look has met beside its parent lives on, and is told


@pytest.mark.whole
def test_what_comes_back_after_the_check_is_seen_by_the_last_look(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
        small.start(small.api_command)
        wait_until(
            lambda: ["uvicorn"] in [process.cmdline()[2:3] for process in small.living()], what="the API's start"
        )
        assert not made(prove_still_contained.fn(context)).is_contained


@pytest.mark.whole
def test_an_ancestor_that_is_the_workload_is_spared_but_not_called_contained(small: SmallWorkload) -> None:
    assert "it is protected, and matches" in launched_by_the_training(small, "prove_contained.fn(case).data.alive")


def test_a_command_line_that_is_no_text_is_frozen_like_any_other(small: SmallWorkload) -> None:
    small.start([*small.training_command, os.fsdecode(b"\xff\xfe")])
    wait_until(lambda: len(small.living()) == 3, what="the training")
    with case_of(small.block()) as context:
        assert len(made(freeze.fn(context)).processes) == 3
        stop.fn(context)
    assert small.living() == []


def test_a_terminal_multiplexer_is_not_taken_for_the_workload(small: SmallWorkload) -> None:
    """Its other panes are somebody's other work."""
    tmux = str(shutil.copy("/bin/bash", small.root.parent / "tmux"))  # its file counts, not what it calls itself
    panes = "cd /; sleep 600 & cd - >/dev/null; venv/bin/python -u src/train.py --mode full; wait"
    pane = small.start([tmux, "-c", panes, "python -u src/train.py --mode full"])
    wait_until(lambda: len(psutil.Process(pane.pid).children()) == 2, what="two panes")
    with case_of(small.block()) as context:
        frozen = {process.command.split()[0] for process in made(freeze.fn(context)).processes}
        stop.fn(context)
    assert frozen == {"venv/bin/python"}
    assert psutil.Process(pane.pid).is_running()
    for child in psutil.Process(pane.pid).children():
        child.kill()
