"""Whether a person was asked, until when, and what was decided, whichever run of the incident asked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.custody.incident.question import Question, question_of, seconds_left

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def asked(until: datetime = NOON) -> dict[str, Any]:
    return {"action": "asked", "until": until.isoformat()}


def answered(decision: str) -> dict[str, Any]:
    return {"action": "answered", "decision": decision}


@pytest.mark.parametrize(
    ("entries", "question"),
    [
        ([], Question()),
        ([{"action": "run opened"}], Question()),
        ([asked()], Question(NOON)),
        ([asked(), {"action": "run opened"}, asked(LATER)], Question(NOON)),
        ([asked(), answered("stop")], Question(NOON, "stop")),
        ([asked(), answered("thaw")], Question(NOON, "thaw")),
        ([asked(), answered("thaw"), {"action": "thawed"}], Question()),
        ([asked(), answered("thaw"), {"action": "thawed"}, asked(LATER)], Question(LATER)),
        ([asked(), {"action": "cancelled"}], Question()),
        ([asked(), answered("stop"), {"action": "cancelled"}], Question(NOON, "stop")),
        ([asked(), answered("perhaps")], Question(NOON)),
        ([{"action": "asked", "until": "soon"}], Question()),
        ([{"action": "asked"}], Question()),
    ],
)
def test_the_first_deadline_and_the_answer_hold_until_a_thaw(entries: list[dict[str, Any]], question: Question) -> None:
    assert question_of(entries) == question


@pytest.mark.parametrize(
    ("until", "now", "left"),
    [(None, NOON, 900), (LATER, NOON, 300), (NOON, LATER, -300), (NOON + timedelta(days=9), NOON, 900)],
)
def test_nobody_is_given_longer_than_the_block_says(until: datetime | None, now: datetime, left: float) -> None:
    assert seconds_left(Question(until), now, 900) == left
