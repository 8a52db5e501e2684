"""One run of ours works on a workload at a time, and nobody else keeps it out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.ownership import owner, take_ownership

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, sys.argv[2].encode())
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another(path: Path, content: str = "") -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", HOLD, path, content], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_second_is_told_what_the_first_is_there_for(tmp_path: Path) -> None:
    assert owner(tmp_path) == ""
    first = take_ownership(tmp_path, "recovery")
    assert first is not None
    assert take_ownership(tmp_path) is None
    assert owner(tmp_path) == "recovery"
    os.close(first)
    assert owner(tmp_path) == ""
    again = take_ownership(tmp_path)
    assert again is not None
    assert owner(tmp_path) == "evacuation"
    os.close(again)


def test_a_rehearsal_and_the_real_one_do_not_meet(tmp_path: Path) -> None:
    both = [take_ownership(tmp_path, dry_run=True), take_ownership(tmp_path)]
    assert None not in both
    for descriptor in both:
        os.close(descriptor or 0)


@pytest.mark.parametrize(
    "content", ["", "{", '{"purpose": "evacuation", "pid": 1, "start": 1}', '{"purpose": "evacuation"}', "[1]"]
)
def test_nobody_who_is_no_run_of_ours_keeps_an_evacuation_out(tmp_path: Path, content: str) -> None:
    with held_by_another(tmp_path / ".owner", content):
        mine = take_ownership(tmp_path)
        assert mine is not None
        assert owner(tmp_path) == "evacuation"
        os.close(mine)
