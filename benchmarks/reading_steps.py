"""`python -m benchmarks.reading_steps JOB DEVICE MOUNT`: our steps on a loop disk, and how much each of them reads.

In a process of its own, whose imports are over before the first step. The page cache is dropped before each step.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.loop_disk import LoopDisk, drop_caches
from benchmarks.transfer import Job, made, opened
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, seal
from tasks.models.inspect import judge_models
from tasks.storage.offload import offload


@dataclass(frozen=True)
class Reading:
    """What one step took, in seconds, and read, in bytes: from the disk, and asked of the kernel by our processes."""

    seconds: float
    disk: int
    asked: int


@dataclass(frozen=True)
class Readings:
    """The steps by name, and the bytes of the files that were copied and that were hashed in place."""

    steps: dict[str, Reading]
    copied: int
    in_place: int

    @classmethod
    def from_json(cls, text: str) -> "Readings":
        """Parse what the process printed."""
        told = json.loads(text)
        return cls(**told | {"steps": {name: Reading(**each) for name, each in told["steps"].items()}})


def _asked() -> int:
    """Bytes that this process, its children and those that they have waited for got from read calls, or copied."""
    ours = psutil.Process()
    return sum(each.io_counters().read_chars for each in (ours, *ours.children(recursive=True)))


def read_by(disk: LoopDisk, act: Callable[[], Any]) -> Reading:
    """Run `act` with an empty page cache, until its bytes are on the disk."""
    drop_caches()
    asked, disk_read, began = _asked(), disk.read, time.monotonic()
    act()
    os.sync()
    seconds = time.monotonic() - began
    return Reading(seconds, disk.read - disk_read, _asked() - asked)


def main() -> None:
    """Run the steps of the job that the first argument describes."""
    job, disk = Job(**json.loads(sys.argv[1])), LoopDisk(Path(sys.argv[3]), sys.argv[2])
    evidence, seals = list[Evidence](), list[Seal]()
    with opened(job) as context:
        collect.fn(context, "disk")  # starts the process that all collectors are forked from
        acts: dict[str, Callable[[], Any]] = {
            "collect": lambda: evidence.append(made(collect.fn(context, "models"))),
            "judge": lambda: judge_models.fn(context, evidence),
            "seal": lambda: seals.append(made(seal.fn(context, 1, evidence))),
            "check": lambda: check_seal.fn(context, seals),
            "offload": lambda: offload.fn(context, seals, seals[-1]),
        }
        steps = {name: read_by(disk, acts[name]) for name in job.stages}
    files = [file for item in evidence for file in item.files]
    in_place = sum(file.size for file in files if file.in_place)
    print(json.dumps(asdict(Readings(steps, sum(file.size for file in files) - in_place, in_place))))


if __name__ == "__main__":
    main()
