"""Workloads as people really start them: by a script, by make, uvicorn with workers, loky without its parent."""

import os
import shutil
import socket
import sys
from pathlib import Path

import psutil
import pytest
import uvicorn

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import Place
from tasks.custody.containment.receipt import Containment, End, Freeze, Stop
from tasks.drill.sample_workload import SOURCE
from tasks.host.host import LinuxHost, lives
from tasks.host.process.places import Places
from tasks.host.process.table import read_process, start_of, untouchable
from tests.integration.host.test_contain import in_a_process_of_its_own
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

SITE = str(Path(uvicorn.__file__).parents[1])
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
LOKY = """
import os, time
from joblib import Parallel, delayed
def burn(number):
    open(f"computing-{os.getpid()}", "w").close()
    while True:
        number += 1
Parallel(n_jobs=3)(delayed(burn)(number) for number in range(3))
"""
ZOMBIE = """
import os, time
child = os.fork()
if child == 0:
    os._exit(0)
open("ready", "w").write(str(child))
while True:
    time.sleep(0.05)
"""


def contain(small: SmallWorkload, grace: float = 5) -> tuple[Freeze, Stop, Containment]:
    """Freeze, see that really everything stands still, stop, check."""
    with case_of(small.block(grace_seconds=grace)) as context:
        cordon.fn(context)
        frozen = made(freeze.fn(context))
        assert isinstance(frozen, Freeze)
        moving = [process for process in small.living() if process.status() != psutil.STATUS_STOPPED]
        assert {process.pid for process in moving}.isdisjoint({each.identity.pid for each in frozen.processes})
        stopped, contained = made(stop.fn(context)), made(prove_contained.fn(context))
    assert isinstance(stopped, Stop)
    assert isinstance(contained, Containment)
    return frozen, stopped, contained


def pids(frozen: Freeze) -> set[int]:
    return {process.identity.pid for process in frozen.processes}


@pytest.mark.whole
def test_a_training_that_a_script_put_into_the_background_is_asked_by_another_signal(small: SmallWorkload) -> None:
    """A shell that is not interactive starts what stands before `&` with SIGINT ignored."""
    script = small.root / "nightly.sh"
    script.write_text("venv/bin/python -u src/train.py --dataset builtin --mode full &\nwait\n")
    small.start(["bash", "nightly.sh"])
    wait_until(lambda: len(small.living()) == 4, what="the training and its two workers")
    frozen, stopped, contained = contain(small)
    assert len(frozen.processes) == 3
    assert {tuple(name for name, _ in each.signals) for each in stopped.processes} == {("SIGTERM", "SIGCONT")}
    assert {each.end for each in stopped.processes} == {End.STOPPED}
    assert contained.is_contained, contained.summary
    wait_until(lambda: not small.living(), what="the script's own end")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("options", "servers"),
    [(["--workers", "2"], 2), pytest.param(["--reload", "--reload-dir", "api"], 1, marks=pytest.mark.soak)],
    ids=["workers", "reload"],
)
def test_a_real_uvicorn_is_frozen_and_stopped_with_all_its_processes(
    small: SmallWorkload, options: list[str], servers: int
) -> None:
    shutil.rmtree(small.root / "uvicorn")
    (small.root / "api").mkdir()
    (small.root / "api/app.py").write_text(APP)
    parent = small.start([*small.api_command, *options], PYTHONPATH=SITE)

    def serving() -> list[psutil.Process]:
        children = psutil.Process(parent.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    wait_until(lambda: len(serving()) == servers and answers(small.port), what="uvicorn's own processes")
    family = {process.pid for process in small.living()}
    assert len(family) >= servers + 2
    frozen, stopped, contained = contain(small)
    assert pids(frozen) == family
    assert {process.role for process in frozen.processes} == {"api"}
    assert End.SURVIVED not in {each.end for each in stopped.processes}
    assert contained.is_contained, contained.summary
    assert small.living() == []
    assert not small.healthy()


def answers(port: int) -> bool:
    """Whether an HTTP request is really answered: a port may be open before its workers are there."""
    with socket.socket() as asking:
        asking.settimeout(1)
        if asking.connect_ex(("127.0.0.1", port)):
            return False
        try:
            asking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return asking.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False


@pytest.mark.whole
def test_real_loky_workers_that_compute_on_after_their_parent_was_killed_are_ended(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(LOKY)
    parent = small.start(PYTHONPATH=SITE)
    wait_until(lambda: len(list(small.root.glob("computing-*"))) == 3, what="three workers that compute")
    parent.kill()
    parent.wait()
    orphans = {int(path.name.rpartition("-")[2]) for path in small.root.glob("computing-*")}
    assert orphans <= {process.pid for process in small.living()}
    frozen, stopped, contained = contain(small, grace=1)
    assert orphans <= pids(frozen)
    assert {process.role for process in frozen.processes} == {"worker"}
    assert {each.end for each in stopped.processes if each.identity.pid in orphans} <= {End.STOPPED, End.KILLED}
    assert contained.is_contained, contained.summary
    assert small.living() == []


def test_a_zombie_in_the_tree_holds_up_nothing(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(ZOMBIE)
    training = small.start()
    wait_until(lambda: (small.root / "ready").exists() and (small.root / "ready").read_text(), what="the child's pid")
    child = psutil.Process(int((small.root / "ready").read_text()))
    wait_until(lambda: child.status() == psutil.STATUS_ZOMBIE, what="the zombie")
    frozen, stopped, contained = contain(small)
    assert pids(frozen) == {training.pid}
    assert [each.end for each in stopped.processes] == [End.STOPPED]
    assert contained.is_contained, contained.summary


@pytest.mark.whole
def test_a_training_at_the_end_of_a_chain_of_launchers_is_stopped_with_them(small: SmallWorkload) -> None:
    """make, bash, env, nice, python and tee, as the real workload's Makefile has them."""
    shutil.copy(SOURCE / "Makefile", small.root)
    small.start(["make", "--silent", "train-full"])
    wait_until(lambda: programs(small) == {"make", "bash", "tee", Path(sys.executable).name}, what="the chain")
    wait_until(lambda: len(small.living()) == 6, what="the training's workers")
    frozen, _, contained = contain(small)
    assert {Path(process.command.split()[0]).name for process in frozen.processes} >= {"python", "tee"}
    assert contained.is_contained, contained.summary
    wait_until(lambda: not small.living(), what="the end of make")
    assert "training with" in max((small.root / "logs").glob("train-*.log")).read_text()


def programs(small: SmallWorkload) -> set[str]:
    return {process.name() for process in small.living()}


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")
def test_another_users_process_is_called_not_contained_and_whose_it_is(small: SmallWorkload) -> None:
    training = small.start(WORKERS="0")
    wait_until(lambda: len(small.living()) == 1, what="the training")
    told = in_a_process_of_its_own(
        small,
        "len(freeze.fn(case).data.processes), prove_contained.fn(case).data.alive, sep='\\n'",
        first="os.setgroups([]); os.setgid(65534); os.setuid(65534)",
    )
    frozen, alive = told.splitlines()
    assert frozen == "0"
    assert f"{training.pid}: " in alive
    assert "user 0's" in alive


@pytest.mark.whole
def test_what_a_person_starts_in_the_root_during_the_stop_is_told_and_left_alone(
    small: SmallWorkload, tmp_path: Path
) -> None:
    """A copy that an operator's shell had begun there was killed with the workload."""
    stubborn = (
        "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); time.sleep(99)"
    )
    training = small.start([sys.executable, "-c", stubborn, "python -u src/train.py --mode full"])
    wait_until(lambda: psutil.Process(training.pid).status() == "sleeping", what="the training")
    told = tmp_path / "pid"
    with case_of(small.block(grace_seconds=1.5)) as context:
        freeze.fn(context)
        small.start(["setsid", "--fork", "sh", "-c", f"sleep 60 & echo $! > {told}; wait"]).wait()
        wait_until(told.exists, what="the person's program")
        wait_until(lambda: told.read_text().strip(), what="its pid")
        receipts = made(stop.fn(context))
        assert psutil.Process(int(told.read_text())).status() == "sleeping"
        assert [receipt.identity.pid for receipt in receipts.processes] == [training.pid]
        unknown = {each.command for each in made(prove_contained.fn(context)).unknown}
        assert "sleep 60" in unknown


@pytest.mark.whole
def test_a_strangers_orphan_in_the_root_is_told_and_left_alone(small: SmallWorkload) -> None:
    """`nohup` and `setsid --fork` leave no parent behind: it was ended as if the training had started it."""
    small.start(WORKERS="0")
    wait_until(small.living, what="the training")
    with case_of(small.block(grace_seconds=1)) as context:
        cordon.fn(context)
        (training,) = pids(made(freeze.fn(context)))
        small.start(["setsid", "--fork", "sleep", "600"]).wait()
        wait_until(lambda: "sleep" in programs(small), what="the stranger's program")
        receipts = made(stop.fn(context))
        assert [receipt.identity.pid for receipt in receipts.processes] == [training]
        (stranger,) = small.living()
        assert stranger.cmdline() == ["sleep", "600"]
        seen = made(prove_contained.fn(context))
        assert seen.alive == ()
        assert [(each.identity.pid, each.command) for each in seen.unknown] == [(stranger.pid, "sleep 600")]


@pytest.mark.whole
@pytest.mark.parametrize(
    ("act", "grace"),
    [("subprocess.Popen(['sleep', LONG], cwd='/')", 1), ("daemon()", 6)],
    ids=["child", "daemon"],
)
def test_what_a_dying_training_leaves_behind_anywhere_is_ended(small: SmallWorkload, act: str, grace: int) -> None:
    """Descent counts, not the folder: a child in the same group, a daemon of its own session that was seen coming."""
    long = f"601.{os.getpid()}"  # the same test with the other act may run beside this one
    started_during_the_stop = (
        f"LONG = '{long}'\n"
        "def daemon():\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(0.6)\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(0.6)\n"
        "            os.chdir('/')\n"
        "            os.execlp('sleep', 'sleep', LONG)\n"
        "        time.sleep(0.6)\n"
        "        os._exit(0)\n"
        "    time.sleep(0.6)\n"
    )
    (small.root / "src/train.py").write_text(
        f"import os, signal, subprocess, sys, time\n{started_during_the_stop}"
        f"def end(*_):\n    {act}\n    os._exit(0)\n"
        "signal.signal(signal.SIGINT, end)\nopen('ready', 'w').close()\ntime.sleep(600)\n"
    )
    small.start()
    wait_until((small.root / "ready").exists, what="the training")
    with case_of(small.block(grace_seconds=grace)) as context:
        cordon.fn(context)
        freeze.fn(context)
        ends = {receipt.command: receipt.end for receipt in made(stop.fn(context)).processes}
        assert made(prove_contained.fn(context)).is_contained
    assert End.SURVIVED not in ends.values()
    left = [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", long]]
    assert left == []


def test_the_next_program_of_a_pipeline_is_no_child_of_the_training(small: SmallWorkload) -> None:
    """An interactive shell makes the training the leader of the whole pipeline's process group."""
    (small.root.parent / "login.sh").write_text(
        "set -m; venv/bin/python -u src/train.py --mode full | (cat >/dev/null; cd /; exec sleep 602); sleep 603\n"
    )
    shell = small.start(["bash", str(small.root.parent / "login.sh")], WORKERS="0")
    wait_until(lambda: {"cat", "python"} <= set(programs(small)), what="the pipeline")
    training, sibling = sorted(psutil.Process(shell.pid).children(), key=lambda each: each.name() != "python")
    try:
        assert os.getpgid(sibling.pid) == training.pid
        with case_of(small.block()) as context:
            cordon.fn(context)
            freeze.fn(context)
            receipts = made(stop.fn(context)).processes
        assert [receipt.identity.pid for receipt in receipts] == [training.pid]
        assert sibling.is_running()
        assert sibling.status() != psutil.STATUS_ZOMBIE
    finally:
        sibling.kill()


HEADLESS = """
import ctypes, threading, time
def compute():
    open("computing", "w").close()
    while True:
        time.sleep(0.01)
threading.Thread(target=compute).start()
time.sleep(0.1)
ctypes.CDLL(None).syscall(60, 0)
"""


@pytest.mark.whole
def test_a_training_whose_main_thread_has_exited_is_known_by_its_other_threads(small: SmallWorkload) -> None:
    """The kernel calls it a zombie and shows neither command line nor folder nor program of it."""
    (small.root / "src/train.py").write_text(HEADLESS)
    training = small.start(PREFECT__FLOW_RUN_ID="0" * 8 + "-1111-2222-3333-" + "4" * 12)
    try:
        wait_until(lambda: psutil.Process(training.pid).status() == psutil.STATUS_ZOMBIE, what="the main thread's end")
        assert Path(f"/proc/{training.pid}/cmdline").read_bytes() == b""
        with case_of(small.block(grace_seconds=0.5)) as context:
            cordon.fn(context)
            (frozen,) = made(freeze.fn(context)).processes
            assert (frozen.identity.pid, frozen.role) == (training.pid, "training")
            assert "src/train.py" in frozen.command
            assert frozen.run.endswith("4" * 12)
            threads = list(Path(f"/proc/{training.pid}/task").iterdir())
            assert {(path / "stat").read_text().rpartition(") ")[2][0] for path in threads} == {"Z", "T"}
            stop.fn(context)
            assert made(prove_contained.fn(context)).is_contained
        assert training.wait(10) != 0
    finally:
        training.kill()  # nobody else finds it


RELAY = """
import _thread, ctypes, time
def compute():
    time.sleep(0.0002)
    _thread.start_new_thread(compute, ())
compute()
time.sleep(0.1)
ctypes.CDLL(None).syscall(60, 0)
"""


@pytest.mark.whole
def test_a_training_of_short_lived_threads_without_a_main_thread_is_no_zombie(small: SmallWorkload) -> None:
    """Each look met a thread that had ended before it was read, and took the process for one that had."""
    (small.root / "src/train.py").write_text(RELAY)
    training = small.start()
    try:
        wait_until(lambda: psutil.Process(training.pid).status() == psutil.STATUS_ZOMBIE, what="the main thread's end")
        host, who = LinuxHost(), Identity(training.pid, start_of(training.pid))
        assert all(lives(host, who) for _ in range(200))
        with case_of(small.block(grace_seconds=0.5)) as context:
            cordon.fn(context)
            assert pids(made(freeze.fn(context))) == {training.pid}
            stop.fn(context)
            assert made(prove_contained.fn(context)).is_contained
        assert training.wait(10) != 0
    finally:
        training.kill()  # nobody else finds it


def test_of_such_threads_all_is_known_or_the_process_says_that_it_is_not(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a thread showed that had ended half way was taken for all of it: no folder, and so no part of the root."""
    (small.root / "src/train.py").write_text(RELAY)
    training = small.start()
    try:
        wait_until(lambda: psutil.Process(training.pid).status() == psutil.STATUS_ZOMBIE, what="the main thread's end")
        places = Places(small.root)
        looks = [read_process(training.pid, None, places) for _ in range(200)]
        assert all(look and (look.unread or {Place.CWD, Place.SCRIPT} <= (look.places or set())) for look in looks)
        assert sum(not look.unread for look in looks if look) > 150
        monkeypatch.setattr("tasks.host.process.table._RELAY_SECONDS", 0.0)
        look = read_process(training.pid, None, places)
        assert look
        assert look.placeless
        assert look.unread.startswith("its main thread has exited")
    finally:
        training.kill()


def borrowing(small: SmallWorkload, name: str, program: str = "venv/bin/python") -> psutil.Process:
    """The training, called by the name of another program; nobody's child."""
    words = " ".join([program, *small.training_command[1:]])
    small.start(["setsid", "--fork", "bash", "-c", f"exec -a '{name}' {words}"], WORKERS="0")
    called = [name, "-u"]
    wait_until(lambda: [each for each in small.living() if words_of(each)[:2] == called], what="the training")
    return next(each for each in small.living() if words_of(each)[:2] == called)


ANY_PROGRAM = r"-u src/train\.py .*--mode full"


BORROWED = ["bash", "-zsh", "vim", "tail", "sudo", "prefect", "sshd: x", "tmux: server", "systemd"]


@pytest.mark.short(1)
@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("program", "name"),
    [
        *(("venv/bin/python", name) for name in BORROWED),
        *(
            pytest.param("./trainer", name, marks=[] if name in {"bash", "vim", "systemd"} else pytest.mark.soak)
            for name in BORROWED
        ),
    ],
)
def test_a_borrowed_name_saves_no_training(small: SmallWorkload, name: str, program: str) -> None:
    """The first word of a command line is what the parent wrote; the executable is the kernel's word."""
    if program == "./trainer":  # no Python: a program with a name that says nothing
        shutil.copy("/bin/bash", small.root / "trainer")
        (small.root / "src/train.py").write_text("while :; do sleep 0.1; done\n")
    training = borrowing(small, name, program)
    with case_of(small.block(training_pattern=ANY_PROGRAM, grace_seconds=1)) as context:
        cordon.fn(context)
        assert not made(prove_contained.fn(context)).is_contained
        assert training.pid in pids(made(freeze.fn(context)))
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
    assert small.living() == []


def test_a_training_whose_own_file_is_called_bash_is_no_shell(small: SmallWorkload) -> None:
    program = str(shutil.copy("/bin/bash", small.root / "bash"))
    training = small.start([program, "-c", "while :; do sleep 0.1; done", "python -u src/train.py --mode full"])
    with case_of(small.block(grace_seconds=1)) as context:
        assert training.pid in pids(made(freeze.fn(context)))
        stop.fn(context)
    assert training.wait(10) != 0


@pytest.mark.whole
@pytest.mark.parametrize("module", ["prefect.engine", "prefect"])
def test_a_training_in_what_is_called_prefect_is_a_member(small: SmallWorkload, module: str) -> None:
    (small.root / "prefect").mkdir()
    (small.root / "prefect/__init__.py").touch()
    for name in ("engine", "__main__"):
        (small.root / f"prefect/{name}.py").write_text("import time\nopen('ready', 'w')\ntime.sleep(600)\n")
    training = small.start(["venv/bin/python", "-m", module, "train"])
    wait_until((small.root / "ready").exists, what="the training")
    with case_of(small.block(training_pattern=r"-m prefect\S* train")) as context:
        cordon.fn(context)
        assert pids(made(freeze.fn(context))) == {training.pid}
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained


def test_the_server_that_we_talk_to_is_spared_whatever_it_runs_from(small: SmallWorkload) -> None:
    (small.root / "prefect").mkdir()
    (small.root / "prefect/__main__.py").write_text(
        f"import socket, time\nlistening = socket.create_server(('127.0.0.1', {small.port}))\ntime.sleep(600)\n"
    )
    server = small.start(["venv/bin/python", "-m", "prefect", "server", "start"])
    wait_until(small.healthy, what="the server")
    snapshot = LinuxHost().snapshot()
    assert server.pid in untouchable(snapshot, {"PREFECT_API_URL": f"http://127.0.0.1:{small.port}/api"})
    for other in ("", "http://127.0.0.1/api", "http://127.0.0.1:1/api", "http://127.0.0.1:port/api"):
        assert server.pid not in untouchable(snapshot, {"PREFECT_API_URL": other})


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")
@pytest.mark.parametrize("borrowed", [pytest.param(True, marks=pytest.mark.soak), False])
def test_another_users_match_that_is_called_a_shell_is_held_against_it(small: SmallWorkload, *, borrowed: bool) -> None:
    """Its executable may not be read: a shell that runs a script is no harmless one, and a name proves nothing."""
    if borrowed:
        there = borrowing(small, "bash").pid
    else:
        text = "tail -f /dev/null; : python -u src/train.py --mode full"  # it waits for nothing that ends
        there = small.start(["bash", "-c", text]).pid
        wait_until(lambda: len(small.living()) == 2, what="the shell")
    seen = in_a_process_of_its_own(
        small,
        "(seen := prove_contained.fn(case).data).alive, seen.left_alone, seen.unknown, sep='\\n'",
        first="os.setgroups([]); os.setgid(65534); os.setuid(65534); from functools import partialmethod\n"
        f"SmallWorkload.block = partialmethod(SmallWorkload.block, training_pattern={ANY_PROGRAM!r})",
    )
    alive, left_alone, _ = seen.splitlines()
    assert f"{there}: bash" in alive, seen
    assert f"{there}: bash" not in left_alone
