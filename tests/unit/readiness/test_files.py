"""The doctor's look at the files of a workload: what would be lost, and what nothing would take."""

import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.acquisition.collector import MIB
from tasks.collectors.code import COLLECTOR
from tasks.custody.incident.readiness import Weight
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_api, check_files, check_models
from tests.support.answering_api import api_that
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


@pytest.mark.parametrize(("name", "times"), [("models/a.bin", 3), ("tool.bin", 1)])
def test_a_store_that_is_a_folder_has_what_goes_to_the_snapshot_and_to_latest_three_times(
    small: SmallWorkload, name: str, times: int
) -> None:
    (small.root / name).write_bytes(b"1" * (3 * MIB))
    target = CheckTarget("small", small.block(), "store", {})
    for in_store, factor in ((False, 1), (True, times)):
        _, summary = target.fits(small.root, in_store=in_store)
        assert f"about {3 * factor} MiB in " in summary


def test_a_folder_named_wrongly_is_a_loss_and_one_of_the_usual_may_be_missing(small: SmallWorkload) -> None:
    found = check_files(CheckTarget("small", small.block(folders=["artefacts"]), "store", {}))
    assert (found.weight, "folders that are not there: artefacts" in found.found) == (Weight.LOSS, True)
    assert check_files(CheckTarget("small", small.block(), "store", {})).weight is Weight.SOUND
    declared = small.block(folders=["artefacts"], may_be_missing=["folders"])
    assert check_files(CheckTarget("small", declared, "store", {})).weight is Weight.SOUND


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "told", "without"),
    [
        (["a.json", "b.json"], "2 models are of a format that is not judged", ""),
        (["a.onnx"], "1 model is of a format that is not judged", "latest/ goes without models/a.onnx"),
        (["a.onnx", "b.json"], "2 models are of a format that is not judged", "latest/ goes without models/a.onnx"),
    ],
)
def test_models_of_a_format_that_is_not_judged_are_said_to_be_that(
    small: SmallWorkload, names: list[str], told: str, without: str
) -> None:
    """JSON models were called unsound and kept out of latest/, which has them, with a cure that was none."""
    (small.root / "models/model_builtin.joblib").unlink()
    for name in names:
        (small.root / "models" / name).write_text('{"w": [1, 2]}')
    found = check_models(CheckTarget("small", small.block(models=["models/*"]), "store", {}))
    assert found.weight is Weight.LOSS
    assert found.found.startswith(told)
    assert ".joblib, .pickle, .pkl" in found.found
    assert ("latest/ goes without" in found.matters, without in found.matters) == (bool(without), True)
    assert ("models/b.json if it is whole" in found.matters) is ("b.json" in names)
    assert "PartlyRecovered" in found.matters
    assert "model_imports" not in found.cure


@pytest.mark.slow
def test_a_model_that_imports_what_is_unknown_has_its_cure(small: SmallWorkload) -> None:
    (small.root / "models/model_own.joblib").write_bytes(pickle.dumps(Weight.LOSS))
    (small.root / "models/a.json").write_text("{}")
    found = check_models(CheckTarget("small", small.block(models=["models/*"]), "store", {}))
    assert (found.weight, "model_imports" in found.cure) == (Weight.LOSS, True)
    assert "models/model_own.joblib is suspect" in found.found
    assert "latest/ goes without" in found.matters
    (small.root / "models/model_own.joblib").unlink()
    found = check_models(CheckTarget("small", small.block(models=["models/*"]), "store", {}))
    assert (found.weight, found.found) == (Weight.SOUND, "1 sound; 1 model is of a format that is not judged")


@pytest.mark.slow
def test_what_is_only_not_judged_has_the_line_that_cures_it_and_no_other(small: SmallWorkload) -> None:
    (small.root / "models/model_builtin.joblib").unlink()
    (small.root / "models/a.onnx").write_bytes(b"\x08\x07 good")
    with api_that({"/health": (200, b'{"model": "a.onnx"}'), "/predict": (200, b'{"pred": 1}')}) as api:
        said = {"models": ["models/*"], "api_url": api.url, "canary_request": {}}
        target = CheckTarget("small", small.block(**said), "store", {})
        for found in (check_models(target), check_api(target)):
            assert found.weight is Weight.LOSS
            assert 'model_formats = [".onnx"] in the block' in found.cure
            assert "correct the fields" not in found.cure
        assert "no model is sound" not in check_api(target).found
        target = CheckTarget("small", small.block(**said, model_formats=[".onnx"]), "store", {})
        assert [check_models(target).weight, check_api(target).weight] == [Weight.SOUND] * 2
        with zipfile.ZipFile(small.root / "models/a.onnx", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps([1]))
        target = CheckTarget("small", small.block(**said), "store", {})
        found = check_models(target)
        assert ("model_formats" in found.cure, "data.pkl in it" in found.found) == (False, True)
