"""What a fleet tells people while it is at work, and when the approval of its stop is asked for again."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.custody.fleet.attempt import Attempt
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import TargetHost
from tasks.custody.incident.news import News
from tasks.fleet import approval, follow
from tasks.fleet.approval import FleetQuestion
from tasks.fleet.follow import FleetWatch
from tests.support.prefect_http import Dated
from tests.unit.custody.fleet.test_order import INCIDENT

NOW = datetime.now(UTC)
FLEET = replace(INCIDENT, hosts=tuple(TargetHost(f"gpu{number}") for number in (1, 2, 3)), opened_at=NOW)
CONTAINED = Row("gpu1", end=HostEnd.VERIFIED, began=NOW)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Names and states of what people are told."""
    heard = list[tuple[str, str]]()

    def announce(_: str, name: str, news: News) -> None:
        heard.append((name.removeprefix(f"fleet {FLEET.name}"), news.state))

    monkeypatch.setattr(follow, "announce", announce)
    monkeypatch.setattr(follow, "read_handover", lambda *_: (None, {}))
    return heard


def looks(monkeypatch: pytest.MonkeyPatch, watch: FleetWatch, *rows: Row) -> None:
    monkeypatch.setattr(follow, "rows_of", lambda *_: list(rows))
    monkeypatch.setattr(watch.closings, "check", lambda *_: list(rows))
    monkeypatch.setattr(watch._table, "show", lambda *_: None)
    watch.look(Dated())  # type: ignore[arg-type]


def test_people_are_told_at_once_who_is_not_contained_and_once_of_each(
    monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    watch = FleetWatch(FLEET, str(uuid4()))
    failed, silent = Row("gpu2", end=HostEnd.NOT_CONTAINED), Row("gpu3", end=HostEnd.SILENT, stands=True)
    looks(monkeypatch, watch, CONTAINED, Row("gpu2"), silent)
    assert told == []
    for _ in range(2):
        looks(monkeypatch, watch, CONTAINED, failed, silent)
    assert told == [(": gpu2", "NotContained")]
    back = Row("gpu3", asks=True, began=NOW + timedelta(hours=1))
    looks(monkeypatch, watch, CONTAINED, failed, back)
    assert told[1:] == [], "not each within a minute"
    watch._told_at -= 61
    looks(monkeypatch, watch, CONTAINED, failed, back)
    assert told[1:] == [(": gpu[2-3]", "NotContained")]
    watch._told_at -= 61
    looks(
        monkeypatch, watch, CONTAINED, replace(failed, attempt=2), replace(back, asks=False, end=HostEnd.NOT_CONTAINED)
    )
    assert told[2:] == [(": gpu[2-3], attempt 2", "NotContained")], "who had asked, and who was retried"


def test_a_host_of_a_fleet_that_asks_for_all_asks_nobody_by_itself(
    monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    watch = FleetWatch(replace(FLEET, ask_above=0), str(uuid4()))
    looks(monkeypatch, watch, CONTAINED, Row("gpu2", asks=True, began=NOW))
    assert told == []
    looks(monkeypatch, watch, CONTAINED, Row("gpu2", asks=True, began=NOW + timedelta(hours=1)))
    assert told == [(": gpu2", "Paused")]


@pytest.mark.parametrize(("hours", "number", "asked"), [(0, 1, True), (5, 1, False), (5, 2, True)])
def test_a_retry_asks_for_the_approval_anew(
    monkeypatch: pytest.MonkeyPatch, hours: int, number: int, *, asked: bool
) -> None:
    """The deadline of the first trigger is long over, that of the retry's orders is not."""
    incident = replace(FLEET, ask_above=0, opened_at=NOW - timedelta(hours=hours))
    attempt = Attempt(number, "run", "SCHEDULED", "Scheduled", "", NOW, ordered=NOW)

    @contextmanager
    def client(**_: object) -> Any:
        yield SimpleNamespace()

    questions = list[str]()
    monkeypatch.setattr(approval, "get_client", client)
    monkeypatch.setattr(approval, "attempts_of", lambda *_: {"gpu1": attempt})
    monkeypatch.setattr(approval, "find_server_time", lambda: NOW)
    monkeypatch.setattr(approval, "await_decision", lambda run, *_, **__: questions.append(run))
    question = FleetQuestion(incident, "the fleet's run")
    question.close()
    if asked:
        question._answer.result(10)
    assert bool(questions) is asked
