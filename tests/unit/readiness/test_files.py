"""The doctor's look at the files of a workload: what would be lost, and what nothing would take."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.acquisition.collector import MIB
from tasks.collectors.code import COLLECTOR
from tasks.custody.incident.readiness import Weight
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_files
from tests.support.workloads import SmallWorkload


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallWorkload]:
    with SmallWorkload(tmp_path / "work load") as workload:
        yield workload


def test_what_nothing_takes_is_named_in_the_line(small: SmallWorkload) -> None:
    (small.root / "data").mkdir()
    (small.root / "data/train.csv").write_text("1,2\n")
    (small.root / "wsgi.py").write_text("app = 1\n")
    found = check_files(CheckTarget("small", small.block(), "store", {}))
    assert found.weight is Weight.SOUND
    assert "not taken 未採取: " in found.found
    assert "data/ 1 file 4 bytes" in found.found
    assert "wsgi.py" not in found.found


def test_the_room_counts_what_no_pattern_names_within_the_bound_of_its_collector(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor called a disk large enough that the code alone would have filled."""

    def needed() -> int:
        _, summary = CheckTarget("small", small.block(), "store", {}).fits(small.root)
        return int(re.findall(r"about (\d+) MiB", summary)[0])

    assert needed() == 0
    (small.root / "tool.bin").write_bytes(b"1" * (3 * MIB))
    assert needed() == 3
    monkeypatch.setattr("tasks.readiness.check_target.COLLECTOR", replace(COLLECTOR, limit=2 * MIB))
    assert needed() == 2


def test_a_folder_named_wrongly_is_a_loss_and_one_of_the_usual_may_be_missing(small: SmallWorkload) -> None:
    found = check_files(CheckTarget("small", small.block(folders=["artefacts"]), "store", {}))
    assert (found.weight, "folders that are not there: artefacts" in found.found) == (Weight.LOSS, True)
    assert check_files(CheckTarget("small", small.block(), "store", {})).weight is Weight.SOUND
    declared = small.block(folders=["artefacts"], may_be_missing=["folders"])
    assert check_files(CheckTarget("small", declared, "store", {})).weight is Weight.SOUND
