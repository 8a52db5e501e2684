"""Trees of processes, wide and deep: seconds from the first look to all frozen, as seen from outside.

What is measured is the freeze that a run begins with, before Prefect is imported. The processes of a tree sleep.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.rows import Row, median, under
from benchmarks.watched import Watched, watch
from tasks.prestart.freeze import freeze_described, thaw_again

_TREE: Final = """
import os, sys, time
for _ in range(int(sys.argv[1]) - 1):
    if bool(os.fork()) == (sys.argv[2] == "deep"):
        break
time.sleep(600)
"""
_ROUNDS: Final = 3
_CAP_SECONDS: Final = 20.0
_GOAL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05


def tree_rows(folder: Path, sizes: Iterable[int]) -> list[Row]:
    """Medians of three rounds for trees of so many processes; the goal is that of the largest."""
    return [
        under(
            f"{size} processes, {shape}: first look to all frozen, s",
            median(seconds_to_freeze(folder / f"{size} {shape} {number}", size, shape) for number in range(_ROUNDS)),
            _GOAL_SECONDS,
        )
        for size in sizes
        for shape in ("wide", "deep")
    ]


def seconds_to_freeze(root: Path, size: int, shape: str) -> float:
    """Start a tree in a root of its own, freeze it, and end it."""
    (root / "src").mkdir(parents=True)
    (root / "src/train.py").write_text(_TREE)
    command = ["python", "-u", "src/train.py", str(size), shape, "--mode full"]
    with subprocess.Popen(command, executable=sys.executable, cwd=root, start_new_session=True) as tree:
        seen, early = Watched(tree.pid, idle_is_rest=False), None
        try:
            while len(seen.living()) < size:
                time.sleep(_LOOK_SECONDS)
            began = time.monotonic()
            early = freeze_described({"root": str(root)})
            watch([seen], began + _CAP_SECONDS)
        finally:
            os.killpg(tree.pid, signal.SIGKILL)
            if early:
                thaw_again(early)
    return (seen.rest or began + _CAP_SECONDS) - began
