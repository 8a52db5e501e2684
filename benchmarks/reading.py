"""`python -m benchmarks.reading [--small]`: how often each byte of 8 GB of models is read, and how quickly.

The models and the evidence lie on one loop-mounted disk that has room for copies of half of the models; the rest is
hashed where it lies. `cp` of what is copied, `sha256sum` of all, and our collector take turns with an empty page cache,
each until its bytes are on the disk; medians count. In the last round our other steps follow, up to the store, the page
cache emptied before each.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import joblib
import numpy as np

from benchmarks import peers
from benchmarks.loop_disk import LoopDisk, drop_caches, loop_disk
from benchmarks.machine import Strangers
from benchmarks.reading_steps import Readings
from benchmarks.rows import RESULTS, Row, median, table, under, with_strangers, write
from benchmarks.transfer import Job
from tasks.drill.screen import say
from tasks.drill.store_and_worker import SeaweedFS

STEPS: Final = ("collect", "judge", "seal", "check", "offload")
_MB: Final = 1e6
_RESERVE: Final = 80 << 20
"""Bytes that an incident sets aside, and those that it leaves to other programs, by a block's defaults."""
_OFTEN: Final = 3
_SHARE: Final = 0.95


class Bench:
    """So many models of one size on a disk with room for half of them."""

    def __init__(self, disk: LoopDisk, server: SeaweedFS, number: int, size: int) -> None:
        """Write the models, and fill the disk up."""
        self.disk, self.server, self.root = disk, server, disk.path / "work"
        (self.root / "models").mkdir(parents=True)
        self.models = [self.root / f"models/model_{each}.joblib" for each in range(number)]
        piece = min(size, 64 << 20)
        for seed, path in enumerate(self.models):  # as joblib writes them: a few names, and arrays of random bytes
            draw = np.random.default_rng(seed)
            weights = [np.frombuffer(draw.bytes(piece), dtype=np.uint8) for _ in range(size // piece)]
            joblib.dump({"weights": weights}, path)
        self.size = sum(path.stat().st_size for path in self.models)
        self.copied = self.models[: number // 2]
        disk.leave(self.size // 2 + size // 2 + _RESERVE)
        self.rates: dict[str, list[float]] = {"cp": [], "sha256sum": [], "ours": []}

    def round(self, number: int, steps: Sequence[str]) -> Readings:
        """Let cp, sha256sum and our steps take turns; each sees an empty page cache."""
        copies = self.disk.path / "copies"
        copies.mkdir()
        self._timed("cp", ["cp", *map(str, self.copied), str(copies)], self.copied)
        shutil.rmtree(copies)
        self._timed("sha256sum", ["sha256sum", *map(str, self.models)], self.models)
        evidence = self.disk.path / f"evidence-{number}"
        at = str(self.root), str(evidence), "IR-20260102T030405Z", self.server.endpoint, self.server.bucket
        job = Job(*at, self.server.pid, tuple(steps))
        command = [sys.executable, "-m", "benchmarks.reading_steps", json.dumps(asdict(job))]
        command += [self.disk.device, str(self.disk.path)]
        environment = peers.environment(self.server)
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found = Readings.from_json(done.stdout)
        shutil.rmtree(evidence)
        self.rates["ours"].append((found.copied + found.in_place) / _MB / found.steps["collect"].seconds)
        return found

    def _timed(self, name: str, command: Sequence[str], files: Sequence[Path]) -> None:
        drop_caches()
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        os.sync()
        seconds = time.monotonic() - began
        self.rates[name].append(sum(path.stat().st_size for path in files) / _MB / seconds)


def rows(rates: dict[str, list[float]], found: Readings) -> list[Row]:
    """What came out, against the goals."""
    ours, theirs = median(rates["ours"]), {peer: median(rates[peer]) for peer in ("cp", "sha256sum")}
    made = [_beside(peer, ours, rate, slower=rate == min(theirs.values())) for peer, rate in theirs.items()]
    for what, how in (("from the disk", "disk"), ("asked of the kernel", "asked")):
        copied, in_place = times_read(found, how)
        made.append(under(f"times that a byte is read, {what}: copied", copied, _OFTEN))
        made.append(under(f"times that a byte is read, {what}: in place", in_place, _OFTEN))
    return made


def _beside(peer: str, ours: float, rate: float, *, slower: bool) -> Row:
    goal = f"at least {_SHARE:g} times" if slower else "the slower one counts"
    holds = not slower or ours >= _SHARE * rate
    return Row(f"copied or hashed in place, beside {peer}, MB/s", ours, rate, round(ours / rate, 2), goal, holds)


def times_read(found: Readings, how: str) -> tuple[float, float]:
    """Return how often a byte that was copied is read, at its source and as a copy, and one that was hashed in place.

    Seal and check read copies only. What the judge reads counts as if it had all been of those in place.
    """
    read = {name: float(getattr(step, how)) for name, step in found.steps.items()}
    each = (read["collect"] + read["offload"]) / (found.copied + found.in_place)
    copied, in_place = (read["seal"] + read["check"]) / found.copied, read["judge"] / found.in_place
    return round(each + copied, 2), round(each + in_place, 2)


def profile(found: Readings) -> str:
    """Where time and reading go, step by step; as a multiple of all bytes of the models."""
    form, size = "{:<10} {:>8} {:>10} {:>10}", found.copied + found.in_place
    lines = [form.format("step", "s", "from disk", "asked for")]
    for name, step in found.steps.items():
        lines.append(form.format(name, f"{step.seconds:.2f}", f"{step.disk / size:.3f}", f"{step.asked / size:.3f}"))
    return "\n".join(lines)


def measure(folder: Path, number: int, size: int, rounds: int) -> tuple[list[Row], str]:
    """Make the disk, run so many rounds on it, and return the rows and the profile."""
    with loop_disk(folder, 2 * number * size + (1 << 28)) as disk, SeaweedFS(folder / "server") as server:
        bench, strangers = Bench(disk, server, number, size), Strangers()
        for each in range(1, rounds + 1):
            with strangers:
                found = bench.round(each, STEPS if each == rounds else STEPS[:1])
            say(f"round {each}: " + ", ".join(f"{name} {rates[-1]:.0f} MB/s" for name, rates in bench.rates.items()))
    return with_strangers(rows(bench.rates, found), strangers), profile(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print and write the rows. Exit 0 if all hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="64 MB, one round: shows that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    if os.geteuid():
        raise SystemExit("expected root: it mounts a disk of its own and drops the page cache. Run it with sudo.")
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    number, size, rounds = (4, 16 << 20, 1) if given.small else (8, 1 << 30, given.rounds)
    folder = RESULTS / f"reading-{os.getpid()}"
    try:
        made, told = measure(folder, number, size, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conditions = f"{os.cpu_count()} processors, {number} models of {size >> 20} MiB, medians of {rounds}"
    write("reading", made, conditions)
    say("\n\n".join([table(made), told, conditions]))
    return 0 if all(row.holds for row in made) else 1


if __name__ == "__main__":
    sys.exit(main())
