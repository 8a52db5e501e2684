"""Collect Python stacks of the frozen processes, read from outside by py-spy.

`--nonblocking`, because a stopped process cannot be paused again. py-spy is an optional extra. It reads the memory of a
hostile process, so each process has a short deadline of its own.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, Incomplete, NothingThere, Target
from tasks.acquisition.procfs import printable
from tasks.custody.evidence.acquisition import Outcome, worst
from tasks.custody.evidence.redact import redact
from tasks.host.process.table import read_process, start_of

_EACH_SECONDS: Final = 3.0
_SHARE: Final = 0.7
_SHOWN: Final = 200
_DENIED: Final = ("permission denied", "operation not permitted")

Look = tuple[Outcome, str]


def find_spy() -> str:
    """Return the py-spy of our own environment, else the host's."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if not found:
        raise NothingThere("py-spy is not installed; it comes with the extra 'stacks'")
    return found


def runs_python(pid: int) -> bool:
    """Return whether a Python interpreter is mapped into the process, whatever its name."""
    maps = Path(f"/proc/{pid}/maps").read_bytes()
    return any(b"python" in line.rpartition(b"/")[2] for line in maps.splitlines() if b"r-xp" in line)


def read_stacks(spy: str, pid: int, start: int, seconds: float) -> Look:
    """Return the stacks of one process, or why there are none."""
    try:
        if start_of(pid) != start:
            return Outcome.EMPTY, "gone"
        if not runs_python(pid):
            return Outcome.EMPTY, "not a Python process"
        return _dump(spy, pid, start, seconds)
    except ProcessLookupError:
        return Outcome.EMPTY, "gone"
    except PermissionError as error:
        return Outcome.DENIED, str(error)
    except subprocess.TimeoutExpired:
        return Outcome.TIMED_OUT, f"not done after {seconds:.1f} s"


def _dump(spy: str, pid: int, start: int, seconds: float) -> Look:
    command = [spy, "dump", "--nonblocking", "--pid", str(pid)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds)
    if done.returncode == 0:
        return Outcome.COLLECTED, redact(done.stdout.decode(errors="backslashreplace"))
    now = read_process(pid)
    if not now or now.identity.start != start or not now.alive:
        return Outcome.EMPTY, "gone"
    words = redact(" ".join(done.stderr.decode(errors="backslashreplace").split()))
    denied = any(text in words.lower() for text in _DENIED)
    return (Outcome.DENIED if denied else Outcome.FAILED), words or f"py-spy ended with {done.returncode}"


def make(target: Target) -> bytes:
    """Return a paragraph a process, in the order of their pids."""
    spy = find_spy()
    until = time.monotonic() + target.seconds * _SHARE
    looks = {pid: _in_time(spy, pid, start, until) for pid, start in target.frozen}
    text = "\n".join(f"{pid}: {outcome}\n{_indent(words)}" for pid, (outcome, words) in looks.items())
    data = (text or "no process of the workload was frozen\n").encode()
    lost = [(outcome, words) for outcome, words in looks.values() if outcome not in {Outcome.COLLECTED, Outcome.EMPTY}]
    if lost:
        cause = lost[0][1].partition(" Stack backtrace:")[0][:_SHOWN]
        raise Incomplete(data, worst(outcome for outcome, _ in lost), f"{len(lost)} processes: {cause}")
    return data


def _indent(words: str) -> str:
    """Indent the lines, so that no name of a thread or function can forge the heading of another process."""
    return "".join(f"    {printable([line])}\n" for line in words.splitlines() if line)


def _in_time(spy: str, pid: int, start: int, until: float) -> Look:
    remaining = min(_EACH_SECONDS, until - time.monotonic())
    return read_stacks(spy, pid, start, remaining) if remaining > 0 else (Outcome.TIMED_OUT, "the time was used up")


COLLECTOR = Collector(
    name="stacks",
    answers="Where in its code did each process stand?",
    order=16,
    sources=(FunctionOutput(make, "stacks.txt"),),
    while_frozen=True,
)
