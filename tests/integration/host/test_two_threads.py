"""Two threads look at one host at a time, as the stop and its tracker do: neither touches what the other's look keeps.

It alone would catch a look that is shared: processes in mount namespaces of their own make the tables of both grow.
"""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from signal import SIGKILL

import pytest

from tasks.custody.containment.place import Place
from tasks.host.host import LinuxHost
from tests.support.workloads import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and makes mount namespaces")
MOUNTS, LOOKS = 30, 300
ELSEWHERE = ["unshare", "--mount", "sh", "-c", "cd /sys && exec sleep $0"]  # no table but its own has its mounts
BIRTHS = ["sh", "-c", 'while :; do "$@" 0.02 & "$@" 0.02; done', "births", *ELSEWHERE]


def runs_sleep(pid: int) -> bool:
    """Return whether a process has come to what it was started for."""
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root with mounts below it."""
    root = tmp_path / "root"
    points = [root / f"mount {number}" for number in range(MOUNTS)]
    try:
        for point in points:
            point.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", point], check=True)
        yield root
    finally:
        for point in points:
            subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def births(root: Path) -> Iterator[dict[int, frozenset[Place]]]:
    """Three processes of which it is known what lies below the root, beside others that come and go."""
    inside = [["unshare", "--mount", "sleep", "600"], ["sleep", "600"]]
    known = [subprocess.Popen(command, cwd=root / "mount 7") for command in inside]
    known.append(subprocess.Popen([*ELSEWHERE, "600"]))
    others = subprocess.Popen(BIRTHS, start_new_session=True)
    try:
        for each in known:
            wait_until(partial(runs_sleep, each.pid), what="a sleep")
        yield dict(zip((each.pid for each in known), map(frozenset, ([Place.CWD], [Place.CWD], [])), strict=True))
    finally:
        os.killpg(others.pid, SIGKILL)
        for each in (others, *known):
            each.kill()
            each.wait()


def test_each_finds_what_it_finds_alone(root: Path, births: dict[int, frozenset[Place]]) -> None:
    host = LinuxHost(root=root)

    def look(number: int) -> list[dict[int, frozenset[Place] | None]]:
        found, last = [], host.arrivals(-1)[0]
        for _ in range(LOOKS):
            if number:
                last, _ = host.arrivals(last)
            snapshot = host.snapshot()
            found.append({pid: snapshot[pid].places for pid in births})
        return found

    assert look(0) == [births] * LOOKS
    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(look, range(2))] == [[births] * LOOKS] * 2
