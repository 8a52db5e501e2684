"""The line on the evidence names the store as far as it was proven there, as the message above it says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.command.by_hand import _evidence_lines, describe_stored

PLACE = "s3://bucket/incidents/IR-1"


@pytest.mark.parametrize(
    ("proven", "line"),
    [
        ([], f"; nothing of it is proven to be in {PLACE} 保全先は未確認"),
        ([False, False], f"; nothing of it is proven to be in {PLACE} 保全先は未確認"),
        ([True, True], f", and {PLACE} 保全先"),
        ([True, False], f", and {PLACE} 保全先 (1 of 2 objects proven)"),
    ],
)
def test_a_place_stands_alone_only_if_everything_is_proven_there(proven: list[bool], line: str) -> None:
    """After Ctrl-C the screen said "not sent", and a line below where in the store it was."""
    assert describe_stored(PLACE, [{"proven": each, "beside": ""} for each in proven]) == line
    assert describe_stored(PLACE, [{"proven": False, "beside": "x" * each} for each in proven]) == line


@pytest.mark.parametrize("rows", [[], [{"name": ".env", "files": 1, "bytes": 9, "reason": "withheld"}]])
def test_what_was_not_taken_has_a_line_only_where_something_was_not(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (home := tmp_path / "IR-1/evidence").mkdir(parents=True)
    (home / "not_taken.json").write_text(json.dumps({"not_taken": rows}))
    known: Any = SimpleNamespace(store={"folder": str(tmp_path)})
    lines = [line for line in _evidence_lines(known, {home.parent: {}}) if line.startswith("not taken ")]
    assert lines == [f"not taken 1 file of 9 bytes; {home / 'not_taken.json'} lists what and why 未採取"] * len(rows)


def test_of_an_incident_on_two_disks_the_last_list_has_the_line(tmp_path: Path) -> None:
    """Its folder on the fallback disk is found as one of its own: of two volumes the older list had a line too."""
    homes = [tmp_path / "disk/IR-1", tmp_path / "fallback/IR-1"]
    for home, volume in zip(homes, ("evidence", "evidence.2"), strict=True):
        (home / volume).mkdir(parents=True)
        rows = [{"name": ".env", "files": 1, "bytes": 9, "reason": "withheld"}]
        (home / volume / "not_taken.json").write_text(json.dumps({"not_taken": rows}))
    known: Any = SimpleNamespace(store={"folder": str(tmp_path)})
    lines = [line for line in _evidence_lines(known, {home: {} for home in homes}) if line.startswith("not taken ")]
    last = homes[1] / "evidence.2/not_taken.json"
    assert lines == [f"not taken 1 file of 9 bytes; {last} lists what and why 未採取"]


def test_a_folder_of_the_incident_without_a_file_is_no_evidence(tmp_path: Path) -> None:
    """Below each Verified stood the empty folder on the fallback disk, with nothing of it proven."""
    known: Any = SimpleNamespace(store={"folder": str(tmp_path / "store")})
    home, fallback = tmp_path / "disk/IR-1", tmp_path / "fallback/IR-1"
    (fallback / "staging").mkdir(parents=True)
    (home / "evidence").mkdir(parents=True)
    (home / "evidence/a.pkl").write_bytes(b"a")
    record = {"objects": [{"proven": True, "beside": ""}]}
    (line,) = _evidence_lines(known, {home: record, fallback: {}})
    assert str(home) in line
    (line,) = _evidence_lines(known, {fallback: {}})
    assert "nothing of it is proven" in line
    (fallback / "evidence").mkdir()
    (fallback / "evidence/b.pkl").write_bytes(b"b")
    first, second = _evidence_lines(known, {home: record, fallback: {}})
    assert first.partition(" 証跡")[2] == second.partition(" 証跡")[2], "one record tells of both disks"
