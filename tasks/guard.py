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
    """Say who holds the lock and why, where people who meet the lock can read it. Survives a loss of power."""
    beside = marker.with_name(f".{marker.name}.{os.getpid()}")
    with beside.open("w") as file:
        file.write(json.dumps(about, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(marker)


def read_marker(marker: Path) -> dict[str, Any]:
    """What the marker says; nothing where there is none, or one that is no marker."""
    try:
        about = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def main() -> None:
    """Hold the lock (waiting for it first where somebody else has it) until SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
