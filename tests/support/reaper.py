"""Run a command whose descendants end with it, in whatever session and process group they are, and whatever ends it.

Run by itself: python -S tests/support/reaper.py COMMAND…
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_DEATH_SIGNAL, _SUBREAPER = 1, 36  # prctl(2)
_KERNEL = ctypes.CDLL(None)


def _stop(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _die_with_us() -> None:
    _KERNEL.prctl(_DEATH_SIGNAL, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Return how the command ended. At SIGTERM, or when our parent dies, all of it is killed; Ctrl-C is its own."""
    _KERNEL.prctl(_SUBREAPER, 1)
    _KERNEL.prctl(_DEATH_SIGNAL, signal.SIGTERM)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.Popen(command, preexec_fn=_die_with_us).wait() % 256  # noqa: PLW1509  no thread of ours
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children()


def _end_children() -> None:
    """Kill our children until there are none: those of a dead child are ours."""
    with suppress(ChildProcessError):
        while True:
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            os.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
