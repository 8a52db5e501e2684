"""The block's patterns on names of a container: the same names as on a disk."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquisition.matching import find_names, matches
from tasks.custody.evidence.pattern import ends_with, fits, literal_folder

NAMES = st.sampled_from(["a", "b.log", ".h", "models"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PARTS = st.sampled_from(["*", "**", "a", "*.log", ".*", "models", "?"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(PATHS, PATTERNS)
def test_what_fits_is_what_the_disk_would_give(path: str, pattern: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        found = {item for item in matches(folder.encode(), pattern.encode()) if isinstance(item, bytes)}
    assert fits(path, pattern) == (path.encode() in found)


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("logs/*.log", "logs"), ("*.log", ""), ("a/b/c.txt", "a/b"), ("a/*/c", "a"), ("**/x", ""), ("./logs/x", "logs")],
)
def test_the_folder_that_all_lie_below(pattern: str, folder: str) -> None:
    assert literal_folder(pattern) == folder


def test_a_pattern_from_the_root_of_a_container_names_full_paths_alone() -> None:
    full = "/data/*/m.onnx"
    assert fits("/data/a/m.onnx", full)
    assert not fits("data/a/m.onnx", full)
    assert literal_folder(full) == "/data"
    assert ends_with("/data/a/m.onnx", [full])
    assert not ends_with("/x/data/a/m.onnx", [full])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data/a").mkdir(parents=True)
        Path(folder, "data/a/m.onnx").touch()
        assert find_names(folder.encode(), [full, f"{folder}/data/a/m.onnx"]) == ([], [])


def test_a_place_in_an_unknown_folder() -> None:
    assert ends_with("/app/models/model_a.joblib", ["models/model_*.joblib"])
    assert not ends_with("/app/models/a.joblib", ["models/model_*.joblib"])
