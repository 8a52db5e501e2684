"""The coverage statement: every attempt, every kind of loss, and which question stays open."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, StoredFile
from tasks.custody.evidence.coverage import attempts, impact, statement
from tasks.custody.store.manifest import canonical

NOW = datetime(2026, 1, 2, tzinfo=UTC)
QUESTION = "Who was logged in?"
FILE = StoredFile("who.txt", "", 5, "0" * 64)
words = st.text(max_size=8)
evidence = st.builds(
    Evidence,
    collector=st.sampled_from(["sessions", "logs", "kernel"]),
    needed=st.booleans(),
    may_be_missing=st.booleans(),
    outcome=st.sampled_from(Outcome),
    reason=words,
    started_at=st.just(NOW),
    ended_at=st.just(NOW),
    volume=st.integers(1, 3),
    files=st.lists(st.just(FILE), max_size=2).map(tuple),
    losses=st.lists(st.builds(Loss, words, st.sampled_from(Outcome), words), max_size=3).map(tuple),
)


@given(st.lists(evidence, max_size=4))
def test_nothing_is_lost_on_the_way_to_the_file_and_back(items: list[Evidence]) -> None:
    data = canonical(statement("IR-1", 1, items, {}))
    assert TypeAdapter(list[Evidence]).validate_python(attempts(json.loads(data))) == items


def test_what_is_no_object_holds_no_attempts() -> None:
    assert attempts([{"collector": "logs"}]) is None


@given(st.lists(evidence, max_size=4))
def test_each_loss_is_told_under_its_kind_and_a_kind_without_one_is_there_and_empty(items: list[Evidence]) -> None:
    losses = statement("IR-1", 1, items, {})["losses"]
    assert set(losses) == {"missing", "denied", "truncated", "timed out", "failed", "withheld"}
    told = [(each["collector"], each["source"], kind, each["reason"]) for kind in losses for each in losses[kind]]
    lost = [(item.collector, loss) for item in items for loss in item.losses if not loss.outcome.is_complete]
    assert sorted(told) == sorted((name, loss.source, str(loss.outcome), loss.reason) for name, loss in lost)


@given(evidence)
def test_the_impact_is_a_sentence_about_the_question_if_and_only_if_it_stays_open(item: Evidence) -> None:
    told = impact(item, QUESTION)
    assert bool(told) == (not item.outcome.is_complete)
    assert not told or told.endswith(QUESTION)
    assert told.startswith("Answered in part") == (
        bool(item.files) and not item.outcome.is_complete and item.outcome is not Outcome.WITHHELD
    )


def test_what_was_expected_is_said_in_words() -> None:
    def expected(*, needed: bool, may_be_missing: bool) -> str:
        item = Evidence("sessions", needed, may_be_missing, Outcome.MISSING, "no who", NOW, NOW, 1)
        (line,) = statement("IR-1", 1, [item], {"sessions": QUESTION})["statement"]
        assert line["impact"] == f"Unanswered: {QUESTION}"
        return str(line["expected"])

    assert expected(needed=True, may_be_missing=False) == "needed"
    assert expected(needed=True, may_be_missing=True) == "needed, may be missing"
    assert expected(needed=False, may_be_missing=True) == "optional"
