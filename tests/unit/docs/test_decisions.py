"""The index of decisions is complete, says what each page says, and every decision in force is named where it binds."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.pages import PROJECT, Page

FOLDER = PROJECT / "docs/adr"
INDEX = Page(FOLDER / "README.md")
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
NUMBERS = [page.name[:4] for page in PAGES]
STATUS = re.compile(
    r"accepted(?:; (?:amended by|amends|supersedes|its server replaced by) \d+(?:, (?:and the server of )?\d+)*)?"
    r"|superseded by \d+"
)


@dataclass(frozen=True)
class Row:
    """One decision in the index."""

    link: str
    decision: str
    date: str
    status: str
    files: frozenset[Path]


@cache
def rows() -> dict[str, Row]:
    """Return the rows of the index by number."""
    pattern = r"^\| \[(\d{4})\]\((.+?)\) \| (.+) \| (.*) \| (.*) \| (.*?) ?\|$"
    found = re.findall(pattern, INDEX.text, re.MULTILINE)
    assert len(found) == len({number for number, *_ in found})
    return {
        number: Row(link, decision, date, status, frozenset(map(resolve, re.findall(r"\]\(([^)]+)\)", files))))
        for number, link, decision, date, status, files in found
    }


def resolve(link: str) -> Path:
    """Return the file that a link of the index leads to."""
    return (FOLDER / link).resolve()


@cache
def naming_files() -> dict[str, frozenset[Path]]:
    """Return the files of code and configuration that name each decision."""
    code = [path for folder in ("blocks", "flows", "tasks") for path in (PROJECT / folder).rglob("*.py")]
    named: dict[str, set[Path]] = {number: set() for number in NUMBERS}
    for path in [*code, PROJECT / "pyproject.toml", PROJECT / "prefect.yaml"]:
        for number in re.findall(r"\bdocs/adr/(\d{4})\b", path.read_text()):
            named[number].add(path)
    return {number: frozenset(files) for number, files in named.items()}


def test_every_decision_has_one_row_in_order() -> None:
    assert [*rows()] == NUMBERS == [f"{number:04}" for number in range(1, len(PAGES) + 1)]
    assert [row.link for row in rows().values()] == [page.name for page in PAGES]
    assert len([line for line in INDEX.text.splitlines() if line.startswith("| [")]) == len(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name[:4])
def test_a_decision_and_its_row_say_the_same(page: Path) -> None:
    title, _, status, *_ = page.read_text().splitlines()
    row = rows()[page.name[:4]]
    assert re.fullmatch(rf"# {page.name[:4]} [^\d].*[^.]", title)
    assert status == f"Status: {row.status}"
    assert STATUS.fullmatch(row.status)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.date)
    assert not row.decision.endswith(".")


def test_who_replaces_and_who_is_replaced_name_each_other() -> None:
    status = {int(number): row.status for number, row in rows().items()}
    newer = {(number, int(other)) for number, text in status.items() for other in targets(text, "amends|supersedes")}
    older = {(int(other), number) for number, text in status.items() for other in targets(text, "[a-z]+ by")}
    assert newer == older


def targets(status: str, relation: str) -> list[str]:
    """Return the numbers of the decisions to which a status has one of these relations."""
    return re.findall(r"\d+", status) if re.search(rf"\b(?:{relation})\b", status) else []


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_a_decision_in_force_is_named_by_the_files_that_it_binds(number: str) -> None:
    row = rows()[number]
    assert all(path.is_file() for path in row.files)
    assert bool(row.files) == row.status.startswith("accepted")
    assert row.files == naming_files()[number]
