"""The tables of the page are what the code says: packages in the contract's rows, sections, modules."""

import importlib
import re
import tomllib
from collections.abc import Iterator

import pytest
from prefect import Task

from docs.packages import PAGE, modules, packages, page
from tests.support.pages import PROJECT


def rows(title: str) -> list[list[str]]:
    """Cells of the table below a heading, without the table's head."""
    chapter = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    table = [line for line in chapter.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def linked(cell: str) -> list[str]:
    """Packages that a cell leads to."""
    return [link.removeprefix("../").replace("/", ".") for link in re.findall(r"\]\(([^)]+)\)", cell)]


@pytest.mark.slow
def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "stale: run `make reference`"


def test_the_rows_of_the_page_are_those_of_the_contract() -> None:
    contract, *_ = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    told: list[set[str]] = [set() for _ in contract["layers"]]
    for row, package, *_ in rows("Packages"):
        told[int(row) - 1].update(re.sub(r"(tasks\.\w+|blocks|flows)\..*", r"\1", each) for each in linked(package))
    assert told == [set(layer.split(" | ")) for layer in contract["layers"]]


def test_every_package_is_on_the_page() -> None:
    there = {path.parent for root in ("flows", "tasks", "blocks") for path in (PROJECT / root).rglob("*.py")}
    named = {".".join(folder.relative_to(PROJECT).parts) for folder in there} - {"tasks"}
    assert named == {each for _, package, *_ in rows("Packages") for each in linked(package)}


@pytest.mark.slow
def test_every_section_of_the_runbook_names_packages_and_modules_that_there_are() -> None:
    assert [section for section, *_ in rows("From the runbook to the code")] == [f"§{number}" for number in range(9)]
    for section, _, where in rows("From the runbook to the code"):
        assert where, section
        for cell in where.split("<br>"):
            (package,) = linked(cell)
            assert set(re.findall(r"`(\w+)`", cell)) <= set(modules(package)), section


def steps() -> Iterator[tuple[str, str, str]]:
    """Package, module and section of each step."""
    every = [(package, module) for package in packages() for module in modules(package)]
    for package, module in every:
        name = f"{package}.{module}"
        if "@step(" in PROJECT.joinpath(*name.split(".")).with_suffix(".py").read_text():
            found = [each for each in vars(importlib.import_module(name)).values() if isinstance(each, Task)]
            titles = [each.name for each in found if each.fn.__module__ == name]
            yield from ((package, module, section) for title in titles for section in re.findall(r"§\d", title))


@pytest.mark.slow
def test_every_step_is_found_by_its_section() -> None:
    told = {section: where for section, _, where in rows("From the runbook to the code")}
    found = list(steps())
    assert {section for *_, section in found} == {f"§{number}" for number in range(1, 9)}
    for package, module, section in found:
        (cell,) = [each for each in told[section].split("<br>") if package in linked(each)]
        assert f"`{module}`" in cell, f"the first line of {package}.{module} has to name {section}"


@pytest.mark.parametrize("package", ["tasks", *packages(), "benchmarks"])
def test_every_package_says_in_two_sentences_what_lives_there_and_what_may_not(package: str) -> None:
    told = (importlib.import_module(package).__doc__ or "").strip()
    assert len(re.findall(r"\.(?: (?=[A-Z§])|$)", told)) == 2, told


@pytest.mark.slow
def test_every_module_says_what_it_does() -> None:
    assert not [f"{package}.{name}" for package in packages() for name, line in modules(package).items() if not line]
