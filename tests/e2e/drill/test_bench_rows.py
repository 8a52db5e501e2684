"""Rows of a bench: which way a ratio is taken, when a goal holds, and what is kept of it."""

import json
from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.rows import Row, at_most, quicker, table, under, write


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
    assert rows.read("x") == []
    told = json.loads(write("x", made, "2 processors").read_text())
    assert told["conditions"] == "2 processors"
    assert told["rows"][0] == {
        "what": "a name that is long",
        "ours": 2,
        "peer": 6,
        "ratio": 3.0,
        "goal": "at least 4 times quicker",
        "holds": False,
    }
    assert told["rows"][1]["ratio"] is None
    assert rows.read("x") == made
    head, first, second = table(made).splitlines()
    assert head.split() == ["ours", "peer", "ratio", "goal", "holds"]
    assert first.split()[-1] == "NO"
    assert second.split() == ["short", "1", "-", "-", "under", "2", "yes"]
