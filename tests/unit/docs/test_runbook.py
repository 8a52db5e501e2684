"""The page for who knows only the runbook: each of its lines has a row there, in both languages, with a link."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import PROJECT, Page

LINES = tomllib.loads(Path(__file__).with_name("runbook.toml").read_text())
"""The commands of the runbook, the fields of its JSON, and what else it asks, by section."""
ENGLISH, JAPANESE = (Page(PROJECT / f"docs/runbook{language}.md") for language in ("", ".ja"))
WORDS = {"as asked": "同じ", "better": "改善", "differs": "相違"}
FENCE = re.compile(r"^```bash\n(.*?)^`{3,}$", re.MULTILINE | re.DOTALL)
HERE_DOCUMENT = re.compile(r"<<'PY'.*?\n(.*?)^PY$", re.MULTILINE | re.DOTALL)


def rows(page: Page) -> list[list[str]]:
    """The rows of its tables, without their heads."""
    lines = [line for line in page.prose.splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row, after in zip(cells, [*cells[1:], [""]], strict=True) if "---" not in {row[0], after[0]}]


def expected() -> Iterator[str]:
    """The first cell of each row."""
    for section in LINES.values():
        yield from (f"`{line}`" for line in (*section.get("commands", []), *section.get("fields", [])))
        yield from section.get("points", [])


def test_every_line_of_the_runbook_has_a_row() -> None:
    assert [row[0] for row in rows(ENGLISH)] == [*expected()]


def test_both_languages_say_the_same_of_each_line() -> None:
    for english, japanese in zip(rows(ENGLISH), rows(JAPANESE), strict=True):
        assert japanese[1] == WORDS[english[1]], english[0]
        if english[0].startswith("`"):
            assert japanese[0] == english[0]
        assert re.findall(r"`evacuation[^`]*`", japanese[2]) == re.findall(r"`evacuation[^`]*`", english[2])


@pytest.mark.parametrize("page", [ENGLISH, JAPANESE], ids=lambda page: page.path.name)
def test_every_row_says_why_and_where_more_is_said(page: Page) -> None:
    for first, word, why, more in rows(page):
        assert word, first
        assert len(why) > 3, first
        assert re.fullmatch(r"\[[\w./-]+\]\([^)]+\)", more), first


if "RUNBOOK" in os.environ:  # it names the runbook, which is not part of this project

    def test_the_lines_are_those_of_the_runbook() -> None:
        text = Path(os.environ["RUNBOOK"]).read_text()
        fields = [
            name for script in HERE_DOCUMENT.findall(text) for name in re.findall(r'^  "(\w+)":', script, re.MULTILINE)
        ]
        scripts = FENCE.findall(HERE_DOCUMENT.sub("<<'PY' > \"$EVD/envinfo.json\"", text))
        lines = [line.strip() for script in scripts for line in script.splitlines()]
        commands = [line for line in lines if line and not line.startswith("#")]
        assert [line for section in LINES.values() for line in section.get("commands", [])] == commands
        assert [name for section in LINES.values() for name in section.get("fields", [])] == fields
