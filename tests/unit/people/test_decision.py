"""Who is asked whether to stop or to thaw, and whose answer holds for a run that carries the incident on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.custody.incident import question
from tasks.custody.incident.question import question_of
from tasks.people import stop_or_thaw as decision
from tasks.people.stop_or_thaw import thaw_decided
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload
from tests.unit.custody.fleet.test_order import INCIDENT


def answers(monkeypatch: pytest.MonkeyPatch, answer: object = None) -> list[Any]:
    """A person who gives this answer; the orders of each keeper of the deadline that was started."""
    keepers = list[Any]()
    monkeypatch.setattr(decision, "start_keeper", lambda _, orders: keepers.append(orders))
    monkeypatch.setattr(decision, "await_decision", lambda *_: answer)
    return keepers


def said(word: str) -> SimpleNamespace:
    return SimpleNamespace(decision=word, summary="a person said so", by="ana", why="it is fine")


@pytest.mark.parametrize("word", ["thaw", "stop"])
def test_an_answer_is_followed_and_holds_for_the_next_run(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    with case_of(small.block(on_alarm="ask")) as run:
        keepers = answers(monkeypatch, said(word))
        assert thaw_decided(run, []) is (word == "thaw")
        assert len(keepers) == 1
        (told,) = question.answers(run.log.entries())
        assert "a person said so" in told
        answers(monkeypatch, said("stop" if word == "thaw" else "thaw"))
        assert thaw_decided(run, []) is (word == "thaw")


@pytest.mark.parametrize("word", ["thaw", "stop"])
def test_without_an_answer_the_block_decides(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    with case_of(small.block(on_alarm="ask", unanswered=word, ask_seconds=600)) as run:
        keepers = answers(monkeypatch)
        assert thaw_decided(run, []) is (word == "thaw")
        assert keepers[0]["incident"] == run.incident.id
        assert 590 < keepers[0]["seconds"] <= 600
        asked = question_of(run.log.entries())
    assert asked.decision == word
    assert asked.until
    assert timedelta(0) < asked.until - datetime.now(UTC) <= timedelta(seconds=600)


def test_the_deadline_has_one_keeper_and_a_run_that_is_cancelled_decides_nothing(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case_of(small.block(on_alarm="ask", unanswered="thaw")) as run:
        keepers = answers(monkeypatch)
        run.cancelled.order(15)
        assert not thaw_decided(run, [])
        assert not thaw_decided(run, [])
        assert len(keepers) == 1
        assert question_of(run.log.entries()).decision == ""


@pytest.mark.parametrize("changes", [{}, {"on_alarm": "evacuate"}])
def test_nobody_is_asked_unless_the_block_says_so(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    with case_of(small.block(**changes)) as run:
        assert not answers(monkeypatch, said("thaw"))
        assert not thaw_decided(run, [])
        assert asked_of(run) == []


def asked_of(run: RunContext) -> list[str]:
    return [each["action"] for each in run.log.entries() if each["action"] in {"asked", "answered"}]


def ordered(run: RunContext, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet's order that asks from then on, by the server's clock; this host's is a day behind."""
    there = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr(decision, "find_server_time", lambda: there)
    order = INCIDENT.order(INCIDENT.hosts[0], 1, INCIDENT.opened_at)
    run.run = replace(run.run, order=replace(order, ask_from=there + timedelta(minutes=minutes)))


def test_a_fleets_order_asks_on_its_own_terms(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    with case_of(small.block(on_alarm="evacuate", unanswered="stop", ask_seconds=60)) as run:
        keepers = answers(monkeypatch)
        ordered(run, -1, monkeypatch)
        assert thaw_decided(run, []), "the order says thaw"
        assert 590 < keepers[0]["seconds"] <= 600
        _, block = keepers[0]["workload"]
        assert (block["on_alarm"], block["unanswered"]) == ("ask", "thaw"), "also if the run that asks has died"
        assert "`thaw`. 期限" in decision.question(run.incident, run.state, [], "thaw", "then")


def test_a_fleets_order_that_does_not_ask_outranks_the_block(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case_of(small.block(on_alarm="ask", unanswered="thaw")) as run:
        answers(monkeypatch, said("thaw"))
        ordered(run, 1, monkeypatch)
        assert not thaw_decided(run, [])
        assert asked_of(run) == []
