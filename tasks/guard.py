"""The guard: a small process that holds the training lock until it is told to let go (runbook §1).

It runs with the standard library alone and outlives the flow, the worker and the session that started it.
The lock is already taken, or waited for, on the open file that it is handed.
"""

import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def write_marker(marker: Path, about: dict[str, Any]) -> None:
    """Say who holds the lock and why, where people who meet the lock can read it."""
    beside = marker.with_name(f".{marker.name}.{os.getpid()}")
    beside.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    beside.chmod(0o644)
    beside.replace(marker)


def read_marker(marker: Path) -> dict[str, Any] | None:
    """What the marker says; None if there is none."""
    try:
        about: dict[str, Any] = json.loads(marker.read_text())
    except FileNotFoundError:
        return None
    return about


def main() -> None:
    """Hold the lock (waiting for it first where somebody else has it) until SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
