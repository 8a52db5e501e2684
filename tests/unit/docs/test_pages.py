"""What the pages say is there: links, commands, parameters, fields; and both languages say the same."""

import json
import re

import pytest
from prefect.utilities.callables import parameter_schema

import blocks
from docs.reference import flows, targets
from flows.command.commands import app
from tasks.custody.incident.deployment_names import deployment_name
from tasks.custody.incident.ending import ENDINGS
from tests.support.pages import PAGES, PROJECT, Page

PAIRS = [
    ("README.md", "README.ja.md"),
    ("docs/setup.md", "docs/setup.ja.md"),
    ("docs/runbook.md", "docs/runbook.ja.md"),
    ("docs/night.md", "docs/night.ja.md"),
]
BOTH = [name for pair in PAIRS for name in pair]
PARAMETERS = {flow.name: set(parameter_schema(flow).properties) for flow in flows()}
FIELDS = {field for name in blocks.__all__ for field in getattr(blocks, name).model_fields}


@pytest.mark.parametrize("page", [Page(path) for path in PAGES], ids=lambda page: page.path.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        name, _, anchor = link.partition("#")
        there = (page.path.parent / name).resolve() if name else page.path
        assert there.exists(), link
        assert not anchor or anchor in Page(there).anchors, link


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_the_japanese_page_has_the_same_shape_commands_and_links(pair: tuple[str, str]) -> None:
    english, japanese = (Page(PROJECT / name) for name in pair)
    assert [level for level, _ in japanese.headings] == [level for level, _ in english.headings]
    assert japanese.shape == english.shape
    assert japanese.commands == english.commands
    assert [text for kind, text in japanese.blocks if kind != "sh"] == [
        text for kind, text in english.blocks if kind != "sh"
    ]
    assert pages_of(japanese) == pages_of(english)


def pages_of(page: Page) -> set[str]:
    """Pages and pictures that it leads to, whichever language they are in, but for itself in the other one."""
    named = {link.partition("#")[0].replace(".ja.md", ".md") for link in page.links}
    return named - {page.path.name.replace(".ja.md", ".md")}


@pytest.mark.parametrize("name", [*BOTH, "docs/audit.md", "docs/latest.md", "docs/training.md"])
def test_every_command_is_one_that_there_is(name: str) -> None:
    known = {row[0].strip("`") for row in targets((PROJECT / "Makefile").read_text()).rows} | {"make .venv/.synced"}
    for command in Page(PROJECT / name).commands:
        if typed := re.match(r"(?:.venv/bin/)?evacuation ([a-z]+)", command):
            assert typed[1] in {*app}, command
        if re.match(r"make [a-z.-]", command):
            assert " ".join(command.split()[:2]) in known, command
        if deployed := re.search(r"prefect deployment run (\w+)/", command):
            assert set(re.findall(r"--param (\w+)=", command)) <= PARAMETERS[deployed[1]], command


@pytest.mark.parametrize("page", [Page(path) for path in PAGES], ids=lambda page: page.path.name)
def test_every_deployment_that_is_run_has_the_name_that_it_is_deployed_under(page: Page) -> None:
    for flow, name in re.findall(r"prefect deployment run ([\w-]+)/([\w-]+)", page.path.read_text()):
        assert name.startswith(deployment_name(flow, "")), f"{flow}/{name}"


@pytest.mark.parametrize("name", BOTH)
def test_every_parameter_and_field_that_is_explained_is_one_that_there_is(name: str) -> None:
    page = Page(PROJECT / name)
    assert set(re.findall(r"`--param (\w+)=", page.prose)) <= set().union(*PARAMETERS.values())
    items = re.findall(r"^- ((?:`\w+`(?:, |、)?)+)(?=[:：])", page.prose, re.MULTILINE)
    assert {field for item in items for field in re.findall(r"\w+", item)} <= FIELDS


@pytest.mark.parametrize("language", ["", ".ja"])
def test_every_state_is_explained_in_both_languages(language: str) -> None:
    pages = (Page(PROJECT / f"docs/{name}{language}.md") for name in ("night", "setup"))
    rows = [line for page in pages for line in page.prose.splitlines() if line.startswith("| `")]
    told = {state for row in rows for state in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {each.name for each in ENDINGS} <= told


def test_the_policy_is_one_that_never_deletes() -> None:
    policy = json.loads((PROJECT / "examples/policies/single.json").read_text())
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert {"s3:PutObject", "s3:GetObject", "s3:ListBucket"} <= actions
    assert not [action for action in actions if "Delete" in action or "*" in action]
