"""A look at the host has so much time for the processes of one account: who is dear delays no freeze, and hides not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tasks.custody.containment.place import Place
from tasks.host.process import table as processes
from tasks.host.process.matcher import Matcher
from tasks.host.process.places import Places
from tasks.host.process.process import Process
from tasks.system import look_budget
from tests.support.accounts import new_user
from tests.support.workloads import open_the_way

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to be several accounts needs root")
PYTHON = "/usr/bin/python3"
CHEAP = "import os, signal; print(os.getpid(), globals().get('failed', 0), flush=True); signal.pause()"
FILES = "import os\nkept = [os.dup(0) for _ in range(600)]\n"
THREADS = """
import threading, time
for _ in range(100): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
MOUNTS = """
import ctypes, os, sys
kernel = ctypes.CDLL(None, use_errno=True)
failed = kernel.unshare(0x10020000)
point = os.fsencode(sys.argv[1])
for _ in range(100): failed = failed or kernel.mount(point, point, None, 4096, None)
"""
DEEP = """
import os
import sys
os.chdir(sys.argv[1])
for _ in range(150):
    os.mkdir("d")
    os.chdir("d")
"""
DEAR = {"files": FILES, "threads": THREADS, "mounts": MOUNTS, "deep folders": DEEP}


@contextmanager
def running(account: int, cwd: Path, code: str = "") -> Iterator[int]:
    """A process of this account that has done this, and works there.

    A shell forks it, so that its table of files is as small as it needs: ours may be large, and a fork inherits that.
    """
    (cwd / "point").mkdir(exist_ok=True)
    (cwd / "point").chmod(0o777)
    command = ["/bin/sh", "-c", '"$@" & wait', "sh", PYTHON, "-I", "-c", code + CHEAP, str(cwd / "point")]
    with subprocess.Popen(
        command, cwd=cwd, user=account, group=account, extra_groups=[], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        assert child.stdout
        pid, failed = map(int, child.stdout.readline().split())
        try:
            if failed:
                pytest.skip("no account may have namespaces of its own here")
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "beside").mkdir()
    open_the_way(tmp_path / "root")
    open_the_way(tmp_path / "beside")
    return tmp_path / "root"


def give(monkeypatch: pytest.MonkeyPatch, free: float, first: float, later: float) -> None:
    monkeypatch.setattr(look_budget, "FREE", free)
    monkeypatch.setattr(look_budget, "FIRST", first)
    monkeypatch.setattr(look_budget, "LATER", later)
    monkeypatch.setattr(look_budget, "EACH", 1)


def looked(places: Places, *pids: int) -> list[Process]:
    """What one look sees of these; on a port of their own nobody listens."""
    places.forget()
    return [process for pid in pids if (process := processes.read_process(pid, {"socket:[0]": 8000}, places))]


@pytest.mark.parametrize("what", DEAR)
def test_a_dear_process_is_held_against_itself_and_the_next_look_reads_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    give(monkeypatch, 0.0, 0.0, 60.0)
    with running(new_user(), root.parent / "beside", DEAR[what]) as dear:
        places = Places(root)
        first, second = (looked(places, dear)[0] for _ in range(2))
    assert first.unread
    assert first.placeless
    assert (second.ports, second.unread, second.placeless) == (frozenset(), "", False)
    assert processes.is_part({dear: first})
    assert Matcher("api", "signal", port=8000).fits(first), "it may listen"
    assert not Matcher("api", "signal", port=8000).fits(second)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "ports", "is_read"), [("files", [8000], True), ("threads", [], False)])
def test_dear_processes_of_an_account_take_nothing_from_cheap_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch, what: str, ports: list[int], *, is_read: bool
) -> None:
    """Neither from its own nor from another's: the training itself may be of the account that attacks."""
    give(monkeypatch, 60.0, 1.0, 1.0)
    account, other = new_user(), new_user()
    with ExitStack() as stack:
        dear = stack.enter_context(running(account, root.parent / "beside", DEAR[what]))
        cheap = [stack.enter_context(running(each, root)) for each in (account, other)]
        places = Places(root)
        begin = places.budget.begin_look

        def begun() -> None:
            begin()
            places.budget._spent[account] = 2.0

        monkeypatch.setattr(places.budget, "begin_look", begun)
        seen = looked(places, dear, *cheap)
    assert (list(seen[0].ports), not seen[0].unread) == (ports, is_read)
    assert [(each.places, each.ports, each.unread) for each in seen[1:]] == [
        (frozenset({Place.CWD}), frozenset(), "")
    ] * 2


def test_what_was_found_before_the_time_was_up_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training in its root is the workload, however many threads and words it has beside."""
    give(monkeypatch, 0.0, 0.0, 0.0)
    with running(new_user(), root, THREADS) as training:
        places, calls = Places(root), iter([-1.0] * 2)
        monkeypatch.setattr(look_budget.LookBudget, "_over", lambda _: next(calls, 1.0))
        (seen,) = looked(places, training)
    assert seen.places == frozenset({Place.CWD})
    assert Matcher("training", "signal").recognises(seen)


@pytest.mark.slow
def test_root_and_our_own_account_are_not_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 0.0, 0.0, 0.0)
    with running(0, root, FILES + THREADS) as own:
        (seen,) = looked(Places(root), own)
    assert (seen.unread, seen.places, seen.ports) == ("", frozenset({Place.CWD}), frozenset())


def test_many_accounts_have_no_more_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 0.0, 1.0, 1.0)
    budget, refused = look_budget.LookBudget(), list[int]()
    budget.begin_look()
    monkeypatch.setattr(look_budget.LookBudget, "_over", lambda _: 0.9)
    for account in range(1, 6):
        try:
            with budget.spent_on(account):
                budget.check()
        except look_budget.TooMuchWork:
            refused.append(account)
    assert refused == [3, 4, 5]


def test_a_command_line_of_many_words_is_one_line_all_the_same(root: Path) -> None:
    words = ["x"] * 5000
    with subprocess.Popen([sys.executable, "-c", "input()", *words, "end"], cwd=root, stdin=subprocess.PIPE) as child:
        try:
            while len(seen := processes.read_process(child.pid).command) < 100:  # type: ignore[union-attr]
                pass
        finally:
            child.kill()
    assert len(seen) < 1100
    assert " ".join(seen).endswith("x x end")
