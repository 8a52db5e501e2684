"""What people are told of containment, and which messages tell the same."""

from datetime import UTC, datetime

import pytest

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment, Stop, Unknown
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.incident.ending import ENDINGS
from tasks.custody.incident.news import EVENT_CONTAINED, contained_news, fleet_needs, fleet_news, topic
from tasks.deployment.automations import MESSAGE_EVENTS

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID = "IR-20260102T030405Z"
QUIET = {"Joined", "Finished", "DryRun", "Completed", "Cancelled", "Ready", "Degraded", "NotReady"}


def test_who_is_contained_is_left_in_peace() -> None:
    news = contained_news(ID, "a on gpu1", Stop(NOW, ()), Containment(NOW, (), cordoned=True, left_alone=("7: vi",)))
    lines = news.message.splitlines()
    assert (news.state, lines[0]) == (
        "Contained",
        f"{ID}: a on gpu1: contained 封じ込め完了 {NOW.astimezone():%F %T %Z}",
    )
    assert lines[1:3] == [
        "Stopped 停止: nothing to stop",
        "Left 残存: contained: nothing of the workload runs; 1 left alone: 7: vi.",
    ]
    assert "nobody now" in lines[3]
    assert lines[4].startswith("Next 次: one more message")


def test_what_lives_is_named_and_a_person_has_to_act() -> None:
    news = contained_news(ID, "a on gpu1", None, Containment(NOW, ("9: train\u202e.py\n",), cordoned=True))
    assert news.state == "NotContained"
    assert "9: train⟨U+202E⟩.py" in news.message
    assert "Who acts 対応: you, now" in news.message
    assert len(news.message.splitlines()) == 5, "no text of the workload makes a line of its own"


def test_who_is_not_known_is_named_and_a_person_has_to_say_what_it_is() -> None:
    unknown = (Unknown(Identity(7, 1), "node serve.js", "it works in the root", ""),)
    news = contained_news(ID, "a on gpu1", None, Containment(NOW, (), cordoned=True, unknown=unknown))
    assert (news.state, "contained" in news.message) == ("Unanswered", False)
    assert "stopped as far as known 判明分は停止" in news.message
    assert "7 is not known: node serve.js: it works in the root" in news.message
    assert "Who acts 対応: you, soon" in news.message
    alive = contained_news(ID, "a on gpu1", None, Containment(NOW, ("9: x",), cordoned=True, unknown=unknown))
    assert alive.state == "NotContained"


def test_a_fleet_of_which_hosts_have_to_be_answered_has_that_word() -> None:
    rows = [Row("gpu1", end=HostEnd.UNANSWERED), Row("gpu2", asks=True)]
    news = fleet_needs("FL-20260102T030405Z-lab-1a2b", "lab", rows)
    assert (news.state, "gpu1 Unanswered" in news.message) == ("Unanswered", True)
    assert "Who acts 対応: you, soon" in news.message
    assert fleet_needs("FL-1", "lab", [*rows, Row("gpu3", end=HostEnd.NOT_CONTAINED)]).state == "NotContained"


def test_a_fleet_tells_who_is_silent() -> None:
    rows = [Row("gpu1", contained="x"), Row("gpu2", contained="x"), Row("gpu3", end=HostEnd.SILENT)]
    news = fleet_news("FL-20260102T030405Z-lab-1a2b", "lab", rows)
    assert "Stopped 停止: 2 of 3 hosts" in news.message
    assert "no sign of life from gpu3" in news.message
    assert "Who acts 対応: you: cut the silent hosts off" in news.message
    assert "nobody now" in fleet_news("FL-1", "lab", rows[:2]).message
    assert "gpu" not in fleet_news("FL-1", "lab", rows[:2]).message


def test_a_fleet_tells_which_hosts_need_a_person_and_for_what() -> None:
    failed, asks = Row("gpu2", end=HostEnd.NOT_CONTAINED), Row("gpu3", asks=True)
    news = fleet_needs("FL-20260102T030405Z-lab-1a2b", "lab", [failed, asks])
    assert (news.state, "gpu2 NotContained" in news.message, "gpu3" in news.message) == ("NotContained", True, True)
    assert "Who acts 対応: you, now" in news.message
    alone = fleet_needs("FL-20260102T030405Z-lab-1a2b", "lab", [asks])
    assert (alone.state, "Not contained 封じ込め未完了: none" in alone.message) == ("Paused", True)
    assert "answer on the run of each that asks" in alone.message


@pytest.mark.parametrize(
    ("event", "message", "expected"),
    [
        (EVENT_CONTAINED, f"{ID}-gpu1.lab: x", f"{ID}-gpu1.lab contained"),
        ("prefect.flow-run.Verified", f"{ID}: VERIFIED.", f"{ID} ended"),
        ("prefect.flow-run.Silent", "FL-20260102T030405Z-lab-1a2b: x", "FL-20260102T030405Z-lab-1a2b ended"),
        ("prefect.flow-run.Paused", f"{ID}: stop or thaw?", ""),
        ("prefect.flow-run.Failed", "Refused: expected a host", ""),
        ("evacuation.readiness.worse", "worse than before: IR-1: x", ""),
    ],
)
def test_only_what_names_its_incident_may_have_been_told_before(event: str, message: str, expected: str) -> None:
    assert topic(event, message) == expected


def test_every_end_is_told_but_those_that_are_no_news() -> None:
    assert {each.name for each in ENDINGS if f"prefect.flow-run.{each.name}" not in MESSAGE_EVENTS} == QUIET
