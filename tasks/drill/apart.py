"""Run the drill in its own process and relay its lines, for the flow that rehearses."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

DRILL: Final = (sys.executable, "-uP", "-m", "flows.cli", "drill")
_END_SECONDS: Final = 60.0


def run_drill(tell: Callable[[str], None], command: Sequence[str] = DRILL) -> tuple[bool, str]:
    """Run the drill to its end, also after an interrupt; return whether all was proven, and its last line."""
    last = ""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        command,
        env=quiet,  # it has servers of its own
        cwd="/",
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
