"""budget.toml only falls: what its check counts, and what it refuses. Without these a change could grow unseen."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.budget import check, excess, figures, lower, problems

PAGES = "A run that is killed\nleaves nothing frozen unseen."
BEFORE: dict[str, Any] = {
    "ceilings": {"lines in all": 300, "lines of flows": 100, "lines of tasks.host": 200, "walruses": 5}
}
RAISE = {
    "room": "flows",
    "lines": 10,
    "pays": "tasks.host",
    "serves": "A run that is killed leaves nothing frozen unseen.",
    "why": "A person cannot be asked: the host is down.",
}
PAID = {"lines of flows": 110, "lines of tasks.host": 190}


def said(ceilings: dict[str, int], *raises: dict[str, Any]) -> str:
    now = {"ceilings": BEFORE["ceilings"] | ceilings, "raise": [*raises]}
    return "\n".join(problems(now, BEFORE, now["ceilings"], PAGES))


@pytest.mark.parametrize(
    ("ceilings", "raises", "told"),
    [
        ({}, [], ""),
        ({"lines of flows": 90, "walruses": 0}, [], ""),
        (PAID, [RAISE], ""),
        ({"walruses": 6}, [], "a ceiling that only falls: walruses at most 5; got 6"),
        ({"lines of flows": 101}, [], "only falls: lines of flows at most 100; got 101"),
        (PAID | {"lines of flows": 111}, [RAISE], "only falls: lines of flows at most 110; got 111"),
        (PAID | {"lines of tasks.host": 191}, [RAISE], "expected lines of tasks.host to pay 10: at most 190; got 191"),
        (PAID | {"lines in all": 301}, [RAISE], "only falls: lines in all"),
        (PAID, [RAISE | {"serves": "Nothing is frozen."}], "expected a sentence that stood in README.md"),
        (PAID, [RAISE | {"pays": "tasks.nobody"}], "expected rooms of budget.toml in a raise; got tasks.nobody"),
        (PAID, [RAISE | {"why": ""}], "without why"),
        (PAID, [{}], "without room, lines, pays, serves, why"),
    ],
)
def test_a_ceiling_rises_by_what_another_room_pays_for_a_promise(
    ceilings: dict[str, int], raises: list[dict[str, Any]], told: str
) -> None:
    assert told in said(ceilings, *raises)
    assert bool(told) is bool(said(ceilings, *raises))


def test_an_earlier_raise_pays_for_nothing_again() -> None:
    before = {"ceilings": BEFORE["ceilings"] | PAID, "raise": [RAISE]}
    now = {"ceilings": before["ceilings"] | {"lines of flows": 120}, "raise": [RAISE]}
    assert "only falls: lines of flows at most 110" in "".join(problems(now, before, now["ceilings"], PAGES))


def test_a_name_of_nothing_and_a_figure_without_a_ceiling_are_told() -> None:
    now = {"ceilings": {"lines of flow": 1}}
    found = [*problems(now, {}, {"lines of flows": 1}, PAGES)]
    assert [each.partition("got ")[2] for each in found] == [
        "a ceiling of what is not there: 'lines of flow'. Correct budget.toml",
        "no ceiling: 'lines of flows'. Correct budget.toml",
    ]


@pytest.mark.parametrize(
    ("counted", "base", "more"), [(100, 0, 0), (101, 0, 1), (103, 103, 0), (104, 103, 1), (99, 0, 0)]
)
def test_what_stood_above_its_ceiling_at_the_merge_base_is_no_fault_of_a_change(
    counted: int, base: int, more: int
) -> None:
    now = {"ceilings": {"statements": 100, "lines of tests": 1}}
    found = [*excess(now, {"statements": counted, "lines of tests": 9}, {"statements": base})]
    assert found == (
        [f"statements: {counted}, {more} too many. Take as much out, or move a ceiling by a [[raise]]"] * bool(more)
    )


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """A checkout of its own, to which files are added; it is its own upstream as it stood at the first commit."""
    folder = tmp_path / "project"
    folder.mkdir()

    def git(*words: str) -> None:
        person = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True)

    def add(*, base: bool = False, **files: str) -> Path:
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--message", "more")
        if base:
            git("update-ref", "refs/remotes/origin/main", "HEAD")
            git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        return folder

    git("init", "--quiet")
    reference = "# R\n\n## Commands\n\n| `a` | b |\n\n## Files\n\n| `a` | In a record. |\n| `b` | Here. |\n"
    add(CHANGELOG_dot_md="# C\n\n## [Unreleased]\n- a\n- b\n\n## 0.1\n- c\n", docs__reference_dot_md=reference)
    return add


def test_lines_are_counted_by_room_and_not_won_by_packing(project: Callable[..., Path]) -> None:
    body = "    if (b := a):\n        return [c for c in (b,)]\n    return []\n"
    code = f'"""Doc."""\n\n# Why.\ndef f(a: int) -> list[int]:\n    """Doc."""\n{body}'
    folder = project(
        tasks__host__a_dot_py=code,
        flows__b_dot_py="import re\nA = re.compile('a'); B = 1\n",
        Makefile="all:\n\ttrue\n# Why.\n\n",
        tests__test_a_dot_py="A = 1\n",
    )
    found = figures(folder)
    assert found["lines of tasks.host"] == 4
    assert found["lines of flows"] == 2
    assert found["lines of the top level"] == 2
    assert found["lines of tests"] == 1
    assert found["lines in all"] == 8
    assert (found["statements"], found["comprehensions"], found["walruses"], found["regexes"]) == (7, 1, 1, 1)
    assert (found["commands"], found["journals"], found["bullets under Unreleased"]) == (1, 1, 2)


@pytest.mark.parametrize(("branches", "complex_ones"), [(14, 0), (15, 1)])
def test_a_function_is_complex_by_its_branches(project: Callable[..., Path], branches: int, complex_ones: int) -> None:
    words = " or ".join(f"a == {number}" for number in range(branches))
    folder = project(flows__a_dot_py=f"def f(a):\n    if {words}:\n        return 1\n")
    assert figures(folder)["complex functions"] == complex_ones


def test_a_change_over_budget_is_told_how_much_and_where(project: Callable[..., Path]) -> None:
    uses = "\n".join(f"import {name}" for name in ("prefect", "prefect_aws", "psutil", "docker", "sklearn", "pandas"))
    folder = project(flows__a_dot_py=uses + "\nimport joblib\n", README_dot_md="a\n", docs__night_dot_md="b\n")
    ceilings = "\n".join(f'"{name}" = {figure}' for name, figure in figures(folder).items())
    project(base=True, budget_dot_toml=f"[ceilings]\n{ceilings}\n[frozen]\n")
    assert check(folder) == []
    project(flows__a_dot_py=uses + "\nA = 1\nB = 2\nC = 3\n")
    told = "\n".join(check(folder))
    assert "lines of flows: 9, 2 too many" in told
    assert "flows/a.py" in told
    assert "expected one real use of joblib" in told


def test_an_issue_lowers_what_has_fallen_and_nothing_else(project: Callable[..., Path]) -> None:
    folder = project(flows__a_dot_py="A = 1\n", budget_dot_toml='[ceilings]\n"lines of flows" = 9\n"modules" = 0\n')
    lower(folder)
    assert (folder / "budget.toml").read_text() == '[ceilings]\n"lines of flows" = 1\n"modules" = 0\n'
