"""Rows of a bench: which way a ratio is taken, when a goal holds, and what is kept of it."""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from benchmarks import machine, rows
from benchmarks.machine import Strangers
from benchmarks.rows import Row, at_most, quicker, table, under, with_strangers, write

COMPUTES = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_a_ratio_says_how_many_times_as_much_the_slower_side_needs() -> None:
    assert quicker("x", 2, 6, 3) == Row("x", 2, 6, 3.0, "at least 3 times quicker", holds=True)
    assert quicker("x", 2, 5.9, 3).holds is False
    assert at_most("x", 11, 10, 1.1) == Row("x", 11, 10, 1.1, "at most 1.1 times", holds=True)
    assert at_most("x", 11.1, 10, 1.1).holds is False
    assert under("x", 0.4, 0.5) == Row("x", 0.4, None, None, "under 0.5", holds=True)
    assert under("x", 0.5, 0.5).holds is False


def test_nothing_is_divided_by_nothing() -> None:
    assert quicker("x", 0, 6, 3).ratio is None
    assert at_most("x", 1, 0, 1).ratio is None
    assert at_most("x", 1, 0, 1).holds is False


def test_machines_and_people_are_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "bench")
    made = [quicker("a name that is long", 2, 6, 4), under("short", 1, 2)]
    told = json.loads(write("x", made, "2 processors").read_text())
    assert told["conditions"] == "2 processors"
    assert told["rows"][0] == {
        "what": "a name that is long",
        "ours": 2,
        "peer": 6,
        "ratio": 3.0,
        "goal": "at least 4 times quicker",
        "holds": False,
        "strangers": 0.0,
    }
    assert told["machine"]["cores"] == os.cpu_count()
    assert told["versions"]["evacuation"]
    assert told["rows"][1]["ratio"] is None
    head, first, second = table(made).splitlines()
    assert head.split() == ["ours", "peer", "ratio", "goal", "holds"]
    assert first.split()[-1] == "NO"
    assert second.split() == ["short", "1", "-", "-", "under", "2", "yes"]


def test_a_row_is_marked_when_strangers_used_more_than_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    processors, seconds = os.cpu_count() or 1, count()
    monkeypatch.setattr(machine, "_strange_seconds", lambda: next(seconds) * 0.1 * processors)
    monkeypatch.setattr("benchmarks.machine.time.monotonic", lambda: next(seconds) * 1.0)
    quiet, busy = Strangers(), Strangers()
    for _ in range(2):
        with busy:
            next(seconds)
    assert (quiet.share, busy.share) == (0.0, 0.2)
    (row,) = with_strangers([under("x", 1, 2)], quiet, busy)
    assert row.strangers == 0.2
    assert table([row]).endswith("yes, disturbed: strangers used 20%")
    assert table(with_strangers([row], quiet)) == table([row])
    assert table([Row("x", 1, None, None, "-", holds=True, strangers=0.1)]).endswith("yes")


def test_who_has_ended_was_ours_and_who_left_us_is_a_stranger() -> None:
    ours, strange = machine._with_ended(os.getpid()), machine._strange_seconds()
    subprocess.run([sys.executable, "-c", COMPUTES], check=True)
    assert machine._with_ended(os.getpid()) - ours > 0.29
    away = f"import os, time\nos.fork() and os._exit(0)\ntime.sleep(0.2)\n{COMPUTES}"
    subprocess.run([sys.executable, "-c", away], capture_output=True, check=True)  # reads until the orphan has ended
    assert machine._strange_seconds() - strange > 0.25
