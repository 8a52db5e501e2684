"""Every state has its exit code, and 0 says that all that was asked for is proven."""

import json
import re
from pathlib import Path

import pytest

from flows.command.by_hand import exit_code_of
from tasks.custody.evidence.keys import VERDICT
from tasks.custody.incident.ending import ENDINGS
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE, INTERRUPTED, NOT_AS_WANTED, REFUSED
from tests.support.pages import PROJECT, Page

ZERO = "Verified Recovered Thawed DryRun Proven Listed Rehearsed Written Mirrored Ready Completed"
ONE = "Failed Crashed"
FROM_THREE_ON = (
    "Partial Unverified NotContained Cancelled Joined PartlyRecovered NotRecovered PartlyThawed Broken Indeterminate "
    "NotRehearsed Refused Declined Expired Silent Degraded NotReady Unanswered Stale Finished Unfinished"
)


def test_a_script_finds_each_code_as_it_was() -> None:
    told = {name: number for number, name in enumerate(FROM_THREE_ON.split(), 3)}
    assert {**dict.fromkeys(ZERO.split(), 0), **dict.fromkeys(ONE.split(), 1), **told} == EXIT_CODES


def test_every_state_has_a_code_and_no_other_name_has() -> None:
    assert set(EXIT_CODES) == {each.name for each in ENDINGS}


@pytest.mark.parametrize("language", ["", ".ja"])
def test_every_state_of_the_pages_has_a_code(language: str) -> None:
    pages = (Page(PROJECT / f"docs/{name}{language}.md") for name in ("night", "setup"))
    rows = [line for page in pages for line in page.prose.splitlines() if re.match(r"\| `[A-Z]", line)]
    told = {state for row in rows for state in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])}
    assert len(told) > 20
    assert told - {"Paused"} <= set(EXIT_CODES)  # a run that waits has none


def test_no_state_that_is_failed_has_code_0_and_joining_or_declining_is_not_what_was_asked_for() -> None:
    other = {"Joined", "Declined", "Refused"}
    assert {each.name for each in ENDINGS if each.completed} - other == {
        name for name, code in EXIT_CODES.items() if code == 0
    }


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ({"word": "VERIFIED"}, 0),
        ({"word": "UNANSWERED"}, NOT_AS_WANTED),
        ({"word": "PARTIAL"}, NOT_AS_WANTED),
        ({"word": "NOTCONTAINED"}, NOT_AS_WANTED),
        (None, NOT_AS_WANTED),
    ],
)
def test_a_dry_run_has_code_0_only_if_the_real_run_would_end_verified(
    tmp_path: Path, verdict: dict[str, object] | None, code: int
) -> None:
    if verdict:
        (tmp_path / VERDICT).write_text(json.dumps({"verdict": verdict}))
    assert exit_code_of(tmp_path) == code
    assert NOT_AS_WANTED not in {*EXIT_CODES.values(), INCOMPLETE, REFUSED, INTERRUPTED}


def test_what_a_script_must_tell_apart_has_a_code_of_its_own() -> None:
    alike = {"Failed": INCOMPLETE, "Crashed": INCOMPLETE}
    own = [code for name, code in EXIT_CODES.items() if code and name not in alike]
    assert len(own) == len(set(own))
    assert {REFUSED, INTERRUPTED, INCOMPLETE}.isdisjoint(own)
