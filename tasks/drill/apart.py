"""Run the drill in its own process and relay its lines, as `make drill` and from within a run."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tasks.custody.errors import Refused
from tasks.drill.deployment import PROJECT

DRILL: Final = (sys.executable, "-u", "-m", "flows.drill")
_END_SECONDS: Final = 60.0


def run_drill(tell: Callable[[str], None], command: Sequence[str] = DRILL) -> tuple[bool, str]:
    """Run the drill to its end, also after an interrupt; return whether all was proven, and its last line."""
    if not (PROJECT / "examples/workload").is_dir():
        raise Refused(
            "the sample workload of a checkout of this project",
            f"none in {PROJECT}",
            "Start the worker from a checkout, or leave the sample out (sample=false).",
        )
    last = ""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=quiet,  # it has servers of its own
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for line in process.stdout or ():
                last = line.rstrip() or last
                tell(line.rstrip())
            return process.wait(_END_SECONDS) == 0, last
        finally:
            process.terminate()
