"""Where a test lies says what it tests and what it needs."""

from collections import Counter
from pathlib import Path

import pytest

from tests.support.pages import PROJECT

TESTS = PROJECT / "tests"


def packages(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def folders(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/test_*.py")}


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_each_folder_of_unit_tests_is_named_for_what_it_tests() -> None:
    assert folders(TESTS / "unit") <= {*packages(PROJECT / "tasks"), "blocks", "docs"}
    assert folders(TESTS / "unit/custody") <= packages(PROJECT / "tasks/custody")
    assert folders(TESTS / "unit/host") <= packages(PROJECT / "tasks/host")


def test_each_folder_marks_its_tests(request: pytest.FixtureRequest) -> None:
    known = {line.partition(":")[0] for line in request.config.getini("markers")}
    assert {path.name for path in TESTS.iterdir() if any(path.rglob("test_*.py"))} <= known
    assert folders(TESTS / "integration") <= known
    assert {mark.name for mark in request.node.iter_markers()} == {"unit"}
