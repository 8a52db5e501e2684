"""Who hides from the patterns is found by facts of the kernel: real processes, renamed or far from the root."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen

import psutil
import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.receipt import Containment
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

RENAMED = """
import ctypes, os, time
def rename(title):
    words = open("/proc/self/stat").read().rpartition(")")[2].split()
    begin, end = int(words[45]), int(words[48])  # of the arguments, of the environment behind them
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, title, len(title))
    ctypes.CDLL(None).prctl(15, title[:15], 0, 0, 0)
WORKERS = 2
for _ in range(WORKERS):
    if os.fork() == 0:
        rename(b"gunicorn: worker [portfolio]")
        break
else:
    rename(b"gunicorn: master [portfolio]")
open(f"renamed-{os.getpid()}", "w").close()
while True:
    time.sleep(0.05)
"""
"""What setproctitle does: gunicorn and celery have another command line then, and no environment."""


@contextmanager
def apart(command: Sequence[str], folder: Path, ready: Path | None = None) -> Iterator[psutil.Process]:
    """A program that is nobody's child, for our own children are told apart; ended with all that it started."""
    before = set(psutil.pids())
    Popen(["setsid", "--fork", *command], cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL).wait()

    def new() -> list[psutil.Process]:
        new = [psutil.Process(pid) for pid in psutil.pids() if pid not in before]
        return [each for each in new if words_of(each) == list(command)]

    wait_until(new if ready is None else ready.exists, what="its start")
    found = new()
    try:
        yield found[0] if found else psutil.Process()
    finally:
        for process in found:
            if process.is_running():
                process.kill()


def contained(small: SmallWorkload, **fields: object) -> Containment:
    """§1 to §3."""
    with case_of(small.block(**fields)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        seen: Containment = made(prove_contained.fn(context))
        return seen


@pytest.fixture
def renamed(small: SmallWorkload) -> set[int]:
    """A gunicorn with two workers, started in the root by the workload's own Python; it ends with the workload."""
    (small.root / "serve.py").write_text(RENAMED)
    small.start(["setsid", "--fork", "venv/bin/python", "serve.py"])
    wait_until(lambda: len(list(small.root.glob("renamed-*"))) == 3, what="three renamed processes")
    return {int(path.name.partition("-")[2]) for path in small.root.glob("renamed-*")}


def test_the_renamed_are_suspects_with_the_fact_that_ties_them(small: SmallWorkload, renamed: set[int]) -> None:
    """It was called contained, and served on."""
    assert {" ".join(words_of(psutil.Process(pid))) for pid in renamed} == {
        "gunicorn: master [portfolio]",
        "gunicorn: worker [portfolio]",
    }
    seen = contained(small)
    assert not seen.contained
    for pid in renamed:
        (told,) = (each for each in seen.alive if each.startswith(f"{pid}: gunicorn: "))
        assert "it works in the root with the workload's interpreter" in told
    assert {psutil.Process(pid).status() for pid in renamed} == {psutil.STATUS_SLEEPING}
