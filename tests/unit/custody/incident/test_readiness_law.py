"""The worst finding is the end; what is worse than before is told; nights are drawn, and nights without a run too."""

from datetime import date, timedelta

import pytest

from tasks.custody.incident.readiness import NIGHTS, Finding, Readiness, Weight, fatal, loss, nights, sound

GOOD = sound("fine").of("a", "good")
LOST = loss("lost", "why", "cure").of("a", "lost")
DEAD = fatal("dead", "why", "cure").of("a", "dead")


@pytest.mark.parametrize(
    ("findings", "end"),
    [((), "Ready"), ((GOOD,), "Ready"), ((GOOD, LOST), "Degraded"), ((LOST, DEAD, GOOD), "NotReady")],
)
def test_the_worst_finding_is_the_end(findings: tuple[Finding, ...], end: str) -> None:
    found = Readiness(findings)
    assert found.ending.name == end
    assert all(each.found in found.message for each in found.bad)
    assert [each.weight for each in found.bad] == sorted((each.weight for each in found.bad), key=[*Weight].index)[::-1]


@pytest.mark.parametrize(
    ("before", "worse"),
    [
        (None, ("a/dead", "a/lost")),
        ({}, ("a/dead", "a/lost")),
        ({"a/lost": "loss"}, ("a/dead",)),
        ({"a/lost": "loss", "a/dead": "loss"}, ("a/dead",)),
        ({"a/lost": "fatal", "a/dead": "fatal", "a/other": "fatal"}, ()),
        ({"a/lost": "never heard of"}, ("a/dead", "a/lost")),
    ],
)
def test_what_is_worse_than_before_is_named(before: dict[str, str] | None, worse: tuple[str, ...]) -> None:
    assert Readiness((GOOD, LOST, DEAD)).worse_than(before) == worse


def test_each_night_has_a_sign() -> None:
    today = date(2026, 3, 1)
    ends = [(today - timedelta(days=31), "NotReady"), (today - timedelta(days=2), "NotReady")]
    ends += [(today - timedelta(days=2), "Degraded"), (today, "Ready"), (today, "of another kind")]
    drawn = nights(ends, today)
    assert len(drawn) == NIGHTS
    assert drawn.endswith("·◐·●")
    assert set(drawn[:-3]) == {"·"}
