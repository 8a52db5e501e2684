"""Control groups of the host with a limit, in version 1 or 2, for processes of the tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tasks.collectors.cgroups import mounts
from tests.support.workloads import wait_until

_NUMBERS = count()
OLDER = {"memory.max": "memory.limit_in_bytes", "pids.max": "pids.max"}
"""Files of version 2, and what they are called in version 1."""


@contextmanager
def limited_group(file: str, value: str, *below: str) -> Iterator[Path]:
    """A group of our own with a limit, or one `below` it; it is removed at the end, when its processes have ended."""
    mounted, controller = mounts(Path("/proc/self/mountinfo").read_text()), file.partition(".")[0]
    there = Path(mounted.get(controller, mounted.get("", ("", "/gone")))[1])
    older = controller in mounted
    if not os.access(there, os.W_OK) or not (older or controller in (there / "cgroup.subtree_control").read_text()):
        pytest.skip(f"no group with {file} can be made here")
    made = [there / f"evacuation-test-{os.getpid()}-{next(_NUMBERS)}"]
    made += [made[0].joinpath(*below[: number + 1]) for number in range(len(below))]
    try:
        for place in made:
            place.mkdir()
        (made[0] / (OLDER[file] if older else file)).write_text(value)
        yield made[-1]
    finally:
        for place in reversed([each for each in made if each.exists()]):
            for pid in (place / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            wait_until(lambda: not (place / "cgroup.procs").read_text(), what="its end")  # noqa: B023  called at once
            place.rmdir()


def join(place: Path, pid: int) -> None:
    """Move a process into a group."""
    (place / "cgroup.procs").write_text(str(pid))
