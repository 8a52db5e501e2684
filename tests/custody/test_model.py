"""Whole and torn files of the workload: real joblib files, cut in every way a kill can cut them."""

import json
import os
import pickle
import random
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from tasks.custody.model import sound

COMPRESSIONS: dict[str, Any] = {
    "none": 0,
    "zlib": 3,
    "gzip": ("gzip", 3),
    "bz2": ("bz2", 3),
    "lzma": ("lzma", 3),
    "xz": ("xz", 3),
}
CUTS = 60


def content() -> dict[str, Any]:
    dice = random.Random(1)  # noqa: S311  a repeatable test, no secret
    return {"weights": np.arange(3000.0), "noise": dice.randbytes(20_000), "names": [f"column {n}" for n in range(200)]}


@pytest.fixture(params=COMPRESSIONS, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / f"model_{request.param}.joblib"
    joblib.dump(content(), path, compress=COMPRESSIONS[request.param])
    return path


def test_a_whole_model_is_sound(model: Path) -> None:
    assert sound(model)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_tiny_and_a_large_model_are_sound(tmp_path: Path, compression: str) -> None:
    for name, value in (("tiny", None), ("large", np.zeros(2_000_000))):
        path = tmp_path / f"model_{name}.joblib"
        joblib.dump(value, path, compress=COMPRESSIONS[compression])
        assert sound(path)


def test_a_model_cut_anywhere_is_not_sound(model: Path, tmp_path: Path) -> None:
    # A compressed file has an end mark of its own, so any cut shows. An uncompressed pickle ends with "." and nothing
    # else: a cut right behind a byte 0x2E (one in 256 of random data) looks whole, and nothing short of reading the
    # pickle could tell. For it the law is: a cut is found exactly if the byte before it is not ".".
    whole = model.read_bytes()
    dice = random.Random(2)  # noqa: S311  a repeatable test, no secret
    cuts = {0, 1, 2, 3, 5, 6, 13, len(whole) - 1, len(whole) // 2} | {dice.randrange(len(whole)) for _ in range(CUTS)}
    torn = tmp_path / "model_torn.joblib"
    for cut in sorted(cuts):
        torn.write_bytes(whole[:cut])
        by_chance = model.stem == "model_none" and whole[:cut].endswith(b".")
        assert sound(torn) == by_chance, cut


def test_zeros_in_the_place_of_a_models_end_are_noticed(model: Path, tmp_path: Path) -> None:
    # What a crash leaves on many file systems: the length is right, the last blocks were never written.
    whole = model.read_bytes()
    torn = tmp_path / "model_torn.joblib"
    torn.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert not sound(torn)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b".",
        b"hello.",
        b"\x1f\x8b.",
        b"BZh9.",
        b"\xfd7zXZ.",
        b"\x5d\x00\x00.",
        b"\x78\x9c.",
        zlib.compress(b"no pickle."),
    ],
)
@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".pickle"])
def test_what_is_no_pickle_is_not_sound(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    assert not sound(path)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b'{"score": 0.97}', True),
        (b"[]", True),
        (b"", False),
        (b'{"score": 0.9', False),
        (b"\xff\xfe\x00", False),
        (b"[" * 200_000, False),
        (b"1" * 5000, False),
    ],
    ids=["object", "list", "empty", "torn", "no text", "too deep", "too long a number"],
)
def test_json_is_sound_if_it_parses(tmp_path: Path, data: bytes, *, whole: bool) -> None:
    path = tmp_path / "summary_x.json"
    path.write_bytes(data)
    assert sound(path) == whole


@pytest.mark.parametrize("name", ["train.log", "cv_results_x.csv", "plot.png", "no_suffix"])
def test_other_files_are_not_judged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert sound(tmp_path / name)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Say which file."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Have os.mknod called by whoever unpickles."""
        return (os.mknod, (str(self.path),))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_is_unpickled(tmp_path: Path, compression: str) -> None:
    sprung, model = tmp_path / "sprung", tmp_path / "model_trap.joblib"
    joblib.dump(Trap(sprung), model, compress=COMPRESSIONS[compression])
    assert sound(model)
    assert not sprung.exists()
    joblib.load(model)
    assert sprung.exists(), "the trap itself does not work"


def test_a_summary_that_python_wrote_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "summary_x.json"
    path.write_text(json.dumps({"score": float("nan"), "名前": "学習"}))
    assert sound(path)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content()))
    assert sound(tmp_path / "model.pkl")
