"""`python -m benchmarks.offload [SET…]`: our offload beside the runbook's, s5cmd and rclone.

On loopback, where server and client share the processors, or over a line between two network namespaces (`--net`). The
clients take turns, each meets a server that is fresh; medians count. Each measurement is kept at once, so that a long
bench may be run in pieces: `--keep` adds rounds to those that are there, `--only` names the turns to take.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.datasets import SETS
from benchmarks.figures import Figures, profile, rows
from benchmarks.line import Line, require_root
from benchmarks.machine import Strangers
from benchmarks.rows import RESULTS, Row, begin, table, write
from benchmarks.turns import Bench
from tasks.drill.screen import say

TURNS: Final = ("typed", "ours", "s5cmd", "rclone", "alone", "resumed", "counted")
ON_A_LINE: Final = ("typed", "ours", "s5cmd", "rclone", "alone", "plain")


def measure(bench: Bench, turns: Sequence[str], rounds: int, kept: Path) -> None:
    """Take each turn so many times, one after the other, and keep what each has given."""
    for number in range(1, rounds + 1):
        for turn in turns:
            with Strangers() as strangers:
                getattr(bench, turn)()
            bench.figures.disturbed(turn, strangers.share)
            bench.figures.keep(kept)
            say(f"{bench.data.name}, round {number}: {turn}")


def kept_in(name: str, data: str) -> Path:
    """Where the figures of a data set are kept."""
    return RESULTS / f"{name}-{data.replace('/', '-of-')}.json"


def report(name: str, line: Line | None) -> list[Row]:
    """Write and print what is kept of all data sets."""
    seen = {data: Figures.kept(kept_in(name, data)) for data in SETS if kept_in(name, data).exists()}
    made = list[Row]()
    for data, figures in seen.items():
        made += rows(data, figures, seen.get(f"{data}/10"), net=line is not None)
    where = f"{line.told}, {line.shared}" if line else f"{os.cpu_count()} processors, server and client share them"
    absent = [f"{peer} is not installed" for peer, there in peers.present().items() if not there]
    conditions = "; ".join([where, *absent, *(f"{data}: {figures.about}" for data, figures in seen.items())])
    write(name, made, conditions)
    say("\n\n".join([table(made), *(profile(*each) for each in seen.items()), conditions]))
    return made


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["S", "M", "L"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--net", action="store_true", help="over a shaped line between network namespaces; needs root")
    parser.add_argument("--keep", action="store_true", help="add to the rounds that are kept")
    parser.add_argument("--only", nargs="+", choices=sorted({*TURNS, *ON_A_LINE}), help="these turns")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the sets that are named; what is kept of others stays. Exit 0 if all goals hold."""
    given = _parsed(arguments)
    if given.net:
        require_root()
    name, every = ("offload-net", ON_A_LINE) if given.net else ("offload", TURNS)
    folder = begin()
    try:
        with Line() if given.net else nullcontext() as line:
            for data in map(SETS.__getitem__, given.sets):
                kept = kept_in(name, data.name)
                seen = Figures.kept(kept) if given.keep and kept.exists() else Figures()
                turns = given.only or (("alone",) if data.many else every)
                measure(Bench(folder / data.name.replace("/", "-"), data, seen, line), turns, given.rounds, kept)
    finally:
        shutil.rmtree(folder)
    return 0 if all(row.holds for row in report(name, line)) else 1


if __name__ == "__main__":
    sys.exit(main())
