"""The reference is what the code says, and whatever an operator meets has a meaning there."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from prefect import flow
from prefect.blocks.core import Block

from docs.reference import (
    PAGE,
    PROJECT,
    Chapter,
    Undocumented,
    actions,
    block_chapter,
    collectors,
    events,
    files,
    flow_chapter,
    reference,
    targets,
)
from docs.source import used_actions
from tasks.acquisition.collector import Collector
from tasks.custody.incident.action import MEANINGS
from tasks.custody.incident.ending import ENDINGS


class Unexplained(Block):
    """A block."""

    _block_type_slug: ClassVar[str] = "unexplained"
    silent: str = ""


@flow
def unexplained(silent: str = "") -> str:
    """Do nothing."""
    return silent


@pytest.mark.slow
def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == reference(), "stale: run `make reference`"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a package of one module."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(source: str) -> Path:
        folder = tmp_path / f"package{abs(hash(source))}"
        folder.mkdir()
        (folder / "module.py").write_text(source)
        return folder

    return made


@pytest.mark.parametrize(
    ("chapter", "name"),
    [
        (lambda _: block_chapter(Unexplained), "silent"),
        (lambda _: flow_chapter(unexplained), "silent"),
        (lambda _: collectors({"a": Collector(name="silent", answers="", order=1, sources=())}), "silent"),
        (lambda _: targets("told:  ## what it does\n\ttrue\nsilent: told\n\ttrue\n"), "make silent"),
        (lambda _: actions(["silent"]), "silent"),
        (lambda package: files(package('from typing import Final\nA: Final = "silent.json"\n')), "silent.json"),
        (lambda package: events(package('from typing import Final\nEVENT: Final = "silent"\n')), "silent"),
    ],
    ids=["block field", "flow parameter", "collector", "make target", "action", "file", "event"],
)
def test_what_has_no_meaning_is_an_error_that_names_it(
    chapter: Callable[[Callable[[str], Path]], Chapter], name: str, package: Callable[[str], Path]
) -> None:
    with pytest.raises(Undocumented, match=f"`{name}`"):
        reference([chapter(package)])


@pytest.mark.slow
def test_every_action_that_is_explained_is_written_somewhere() -> None:
    assert set(used_actions(PROJECT / "tasks")) == set(MEANINGS)


def named_states() -> Iterator[str]:
    """Names that the code gives to states by itself."""
    for path in [*(PROJECT / "tasks").rglob("*.py"), *(PROJECT / "flows").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Completed", "Failed", "Cancelled", "State"}:
                found = {each.arg: each.value for each in node.keywords}.get("name")
                yield from [str(found.value)] if isinstance(found, ast.Constant) else []


@pytest.mark.slow
def test_no_run_ends_in_a_state_that_nobody_explains() -> None:
    assert set(named_states()) <= {each.name for each in ENDINGS}, "add it to tasks/custody/incident/ending.py"
