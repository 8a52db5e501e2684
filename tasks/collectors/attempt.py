"""Supervise one collector's process group: end it at its deadline, or when it reads and writes nothing for too long.

See docs/adr/0003.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from tasks.acquisition.collector import Collector, Target
from tasks.collectors.zygote import Running, start
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.redact import redact
from tasks.system.cancellation import Cancellation

_TAIL: Final = 400
_LOOK_SECONDS: Final = 0.25
_LAST_WAIT_SECONDS: Final = 2.0


def attempt(
    what: Collector, target: Target, staging: Path, program: tuple[str, ...] = (), cancelled: Cancellation | None = None
) -> tuple[list[Any], Loss | None]:
    """Run a collector; return what it yielded, line by line, and the loss if the attempt as a whole failed."""
    # in memory, because a full disk would lose its lines, and with them what was hashed in place
    with _in_memory("asked") as request, _in_memory("told") as out, _in_memory("complaints") as err:
        request.write(json.dumps(asdict(target)).encode())
        request.seek(0)
        files = [file.fileno() for file in (request, out, err)]
        process = start([what.name, str(staging)], files, program)
        code, late = _wait(process, Pulse(target.seconds, what.stalled), cancelled)
        lines = [json.loads(line) for line in _all_of(out).splitlines(keepends=True) if line.endswith(b"\n")]
        reason = redact(_all_of(err)[-_TAIL:].decode(errors="replace").strip())
    if late:
        return lines, Loss(what.name, Outcome.TIMED_OUT, late)
    if not lines or lines[-1] != "end":
        return lines, Loss(what.name, Outcome.FAILED, f"ended with {code}: {reason}")
    return lines[:-1], None


def _in_memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _wait(process: Running, pulse: "Pulse", cancelled: Cancellation | None) -> tuple[int | None, str]:
    """Return the exit code and why it was ended, empty if it ended by itself. Its process group ends with it."""
    code = None
    try:
        while not (late := pulse.over(time.monotonic(), count_moved_bytes(process.pid))):
            if cancelled:
                late = "the run was cancelled"
                break
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(min(_LOOK_SECONDS, pulse.seconds_left(time.monotonic())))
                break
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if code is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WAIT_SECONDS)
    return code, late


def count_moved_bytes(pid: int) -> int | None:
    """Return the bytes that a process has read and written, copies within the kernel included; None if unknown."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return sum(int(line.partition(":")[2]) for line in lines if line.startswith(("rchar", "wchar")))
    except (OSError, ValueError):
        return None


class Pulse:
    """Decide when an attempt is over, by its total time and by the time since it last read or wrote."""

    def __init__(self, seconds: float, stalled: float) -> None:
        """Take both limits in seconds; they begin with the first call of `over`."""
        self.seconds, self.stalled = seconds, stalled
        self._began: float | None = None
        self._moved_at, self._moved = 0.0, -1

    def over(self, now: float, moved: int | None) -> str:
        """Return why it is over at this moment; empty if it may go on. If `moved` is None only the total counts."""
        if self._began is None:
            self._began = now
        if moved is None or moved != self._moved:
            self._moved_at, self._moved = now, moved or 0
        if now - self._began >= self.seconds:
            return f"not done after {self.seconds:.3g} s"
        if now - self._moved_at >= self.stalled:
            return f"neither read nor wrote for {self.stalled:.3g} s"
        return ""

    def seconds_left(self, now: float) -> float:
        """Return the seconds until its total time is over, at least a millisecond."""
        return max(0.001, self.seconds - (now - (now if self._began is None else self._began)))
