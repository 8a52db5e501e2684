"""How long `evacuation status` takes, as a multiple of `python -c pass`: `make bench-status`."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.machine import Strangers
from benchmarks.rows import Row, table, with_strangers, write

_ROUNDS: Final = 15


def seconds(command: Sequence[str]) -> float:
    """Wall time of one run of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Run both in turn, and print and write the medians with their ratio."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "evacuation.toml")
        file.write_text(f'[workload.bench]\nroot = "{folder}"\nlock = "{folder}/lock"\n')
        program = str(Path(sys.executable).with_name("evacuation"))
        commands = {"pass": [sys.executable, "-c", "pass"], "status": [program, "status", str(file)]}
        for command in commands.values():
            seconds(command)
        with Strangers() as strangers:
            rounds = [{name: seconds(command) for name, command in commands.items()} for _ in range(_ROUNDS)]
    bare, status = (round(median(each[name] for each in rounds), 4) for name in commands)
    ratio = round(median(each["status"] / each["pass"] for each in rounds), 2)
    result = with_strangers([Row("status beside python -c pass, s", status, bare, ratio, "-", holds=True)], strangers)
    write("status", result, f"medians of {_ROUNDS} rounds, in turns")
    print(table(result))


if __name__ == "__main__":
    main()
