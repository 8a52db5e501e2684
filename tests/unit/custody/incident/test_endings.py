"""How a run ends by its verdict, and which of Prefect's own endings are no failure."""

import pytest

from tasks.custody.incident.ending import DRY_RUN, NOT_RECOVERED, OF_PREFECT, UNVERIFIED, VERIFIED, Ending, ending_of
from tasks.custody.incident.verdict import Word


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        ({}, VERIFIED),  # that the record is stored is the rule
        ({"stored": False}, UNVERIFIED),
        ({"dry_run": True}, DRY_RUN),
        ({"recovery": "no API"}, NOT_RECOVERED),
    ],
)
def test_a_verified_run_ends_by_what_came_after(given: dict[str, object], ending: Ending) -> None:
    assert ending_of(Word.VERIFIED, given.pop("recovery", None), **given) is ending  # type: ignore[arg-type]


def test_of_prefects_own_endings_the_completed_ones_are_no_failure() -> None:
    assert {each.name for each in OF_PREFECT if each.completed} == {"Completed"}
