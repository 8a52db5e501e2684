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
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import thaw_again

_TRAINING: Final = "import subprocess, sys\nsubprocess.run(['sh', 'tree.sh', str(int(sys.argv[1]) - 1)])\n"
_TREES: Final = {
    "wide": "while [ $1 -gt 1 ]; do sleep 600 & set -- $(($1 - 1)); done; exec sleep 600",
    "deep": 'if [ $1 -gt 1 ]; then sh "$0" $(($1 - 1)) & fi; exec sleep 600',
}
"""Each process runs a program anew: what was forked a thousand times in a row forks ever more slowly."""
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
    (root / "src/train.py").write_text(_TRAINING)
    (root / "tree.sh").write_text(_TREES[shape])
    command = ["python", "-u", "src/train.py", str(size), "--mode full"]
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
