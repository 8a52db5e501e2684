"""Which incident an alarm belongs to, and that nothing in an alarm can keep an evacuation from starting."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.redact import redact
from tasks.custody.incident.alarm import Alarm, Past, belongs_to, last_begin

RUN = "0f0b4a80-1111-4222-8333-abcdefabcdef"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
OLD, NEW = "IR-20260101T000000Z", "IR-20260102T000000Z"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["id", "event", "occurred", "resource", "name", "message", "payload"])
told = st.sampled_from(["run_id", "pid", "start", "exit_code", "host", "began", "last_lines", "message"])


def test_what_an_automation_hands_over_is_read() -> None:
    alarm = Alarm.of(
        {
            "event": "training.failed",
            "occurred": "2026-01-02T21:00:00+09:00",
            "resource": "training.portfolio",
            "name": "",
            "message": "",
            "payload": {
                "run_id": RUN,
                "pid": 41,
                "start": "77",
                "exit_code": -9,
                "host": "gpu1",
                "began": "2026-01-02T11:00:00+00:00",
                "last_lines": ["epoch 1", "loss is NaN, token=abc"],
            },
        }
    )
    hidden = redact("token=abc")
    assert alarm == Alarm(
        "training.failed",
        "training.portfolio",
        RUN,
        "gpu1",
        41,
        77,
        -9,
        f"loss is NaN, {hidden}",
        NOON,
        NOON - timedelta(hours=1),
    )
    assert alarm.summary == f"training.failed of training.portfolio, on gpu1, exit code -9, loss is NaN, {hidden}"


def test_a_failed_run_is_known_by_its_resource() -> None:
    alarm = Alarm.of({"resource": f"prefect.flow-run.{RUN}", "name": "lazy-fox", "message": "Flow run crashed"})
    assert alarm
    assert (alarm.run, alarm.name, alarm.message) == (RUN, "lazy-fox", "Flow run crashed")


@pytest.mark.parametrize("word", [None, b"gpu1", ["gpu1"], {"host": "gpu1"}])
def test_a_word_that_is_neither_text_nor_number_is_empty(word: object) -> None:
    payload = {"host": word, "message": word, "last_lines": [word]}
    alarm = Alarm.of({"event": word, "name": word, "resource": word, "message": word, "payload": payload})
    assert alarm == Alarm()


@pytest.mark.slow
@given(st.dictionaries(fields | st.text(max_size=5), anything | st.dictionaries(told, anything), max_size=7))
def test_whatever_is_handed_over_can_be_read_and_written_down(said: dict[str, Any]) -> None:
    alarm = Alarm.of(said)
    assert (alarm is None) == (not said)
    if alarm:
        assert json.loads(json.dumps(alarm.facts)) == alarm.facts
        assert "\n" not in alarm.summary


@pytest.mark.parametrize(
    ("alarm", "incident"),
    [
        (Alarm(run=RUN), OLD),
        (Alarm(pid=41, start=77), OLD),
        (Alarm(pid=41), OLD),
        (Alarm(pid=41, began=NOON - timedelta(days=2)), OLD),
        (Alarm(pid=41, began=NOON + timedelta(seconds=1)), ""),
        (Alarm(pid=41, start=78), ""),
        (Alarm(pid=42, start=77), ""),
        (Alarm(), ""),
        (Alarm(occurred=NOON - timedelta(seconds=1)), NEW),
        (Alarm(occurred=NOON + timedelta(seconds=1)), ""),
        (Alarm(occurred=NOON + timedelta(seconds=9), began=NOON - timedelta(seconds=1)), NEW),
        (Alarm(occurred=NOON - timedelta(seconds=1), began=NOON + timedelta(seconds=1)), ""),
        (Alarm(run=RUN, began=NOON - timedelta(days=1, seconds=1)), OLD),
        (Alarm(run=RUN, began=NOON + timedelta(days=9)), ""),  # it was tried again, and has failed again
    ],
)
def test_an_alarm_belongs_to_who_contained_what_it_tells_of(alarm: Alarm, incident: str) -> None:
    past = [
        Past(OLD, frozenset({RUN}), frozenset({Identity(41, 77)}), lifted=NOON - timedelta(days=1)),
        Past(NEW, frozenset(), frozenset({Identity(40, 1)}), lifted=NOON),
    ]
    assert belongs_to(alarm, past) == incident
    assert belongs_to(alarm, reversed(past)) == incident


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_alarm_of_another_clock_than_the_hosts_is_news(hours: int) -> None:
    lifted = NOON + timedelta(hours=hours)
    alarm = Alarm(began=lifted - timedelta(minutes=30), occurred=lifted - timedelta(minutes=20))
    assert belongs_to(alarm.comparable(NOON, NOON + timedelta(seconds=1)), [Past(OLD, lifted=lifted)]) == OLD
    assert belongs_to(alarm.comparable(NOON, lifted), [Past(OLD, lifted=lifted)]) == ""


@pytest.mark.parametrize(
    ("hours", "began"), [(5, 4), (3, 1), (None, 4), (0, 1)], ids=["the last", "an earlier", "no time", "none before"]
)
def test_a_run_that_is_tried_again_began_with_the_attempt_that_the_alarm_tells_of(
    hours: int | None, began: int
) -> None:
    times = [("SCHEDULED", 0), ("RUNNING", 1), ("FAILED", 2), ("SCHEDULED", 3), ("RUNNING", 4), ("FAILED", 5)]
    states = [{"type": kind, "timestamp": (NOON + timedelta(hours=at)).isoformat()} for kind, at in times]
    occurred = None if hours is None else NOON + timedelta(hours=hours)
    assert last_begin(states, occurred) == NOON + timedelta(hours=began)
    assert last_begin([], occurred) is None
    assert last_begin([{"type": "RUNNING", "timestamp": "soon"}, {}], occurred) is None


def test_while_a_workload_stands_contained_every_alarm_belongs_to_that_incident() -> None:
    past = [Past(OLD, frozenset({RUN}), lifted=NOON), Past(NEW, stands=True)]
    assert belongs_to(Alarm(occurred=NOON + timedelta(days=3)), past) == NEW
    assert belongs_to(Alarm(run=RUN), past) == OLD, "whoever is named by a receipt belongs to that"


def test_an_incident_that_contained_nothing_is_joined_by_nobody() -> None:
    assert belongs_to(Alarm(run=RUN, pid=41, occurred=NOON), [Past(OLD), Past(NEW)]) == ""


@pytest.mark.parametrize(
    ("occurred", "lifted", "joins"),
    [
        ("12:00:00", "12:00:00.700000", False),
        ("12:00:00", "12:00:00", False),
        ("12:00:00", "12:00:01", True),
        ("12:00:00.600000", "12:00:00.700000", True),
        ("12:00:00.700000", "12:00:00.600000", False),
    ],
)
def test_an_alarm_in_whole_seconds_is_news_in_the_second_in_which_the_cordon_was_lifted(
    occurred: str, lifted: str, *, joins: bool
) -> None:
    """Joined, it would contain nothing: the training that it tells of may have been let in in that second."""
    alarm = Alarm.of({"event": "training.failed", "occurred": f"2026-01-02T{occurred}+00:00"})
    assert alarm
    past = [Past(OLD, lifted=datetime.fromisoformat(f"2026-01-02T{lifted}+00:00"))]
    assert belongs_to(alarm, past) == (OLD if joins else "")


@pytest.mark.parametrize(
    ("alarm", "told"),
    [
        (Alarm(), "an alarm of a training"),
        (Alarm(event="training.failed", name="n", exit_code=0), "training.failed of n, exit code 0"),
        (Alarm(host="gpu1", message="why"), "an alarm of a training, on gpu1, why"),
    ],
)
def test_an_alarm_is_told_by_what_is_known_of_it(alarm: Alarm, told: str) -> None:
    assert alarm.summary == told


def test_no_word_of_an_alarm_is_longer_than_can_be_shown() -> None:
    alarm = Alarm.of({"event": "x " * 999, "name": "n", "resource": "r"})
    assert alarm
    assert alarm.event == ("x " * 250).strip()
    assert alarm.name == "n"


@pytest.mark.parametrize(
    ("began", "start", "incident"),
    [
        (NOON - timedelta(seconds=1), None, OLD),
        (NOON, None, ""),
        (NOON + timedelta(days=1), 77, OLD),
    ],
)
def test_a_pid_alone_may_have_been_used_again_since_the_cordon_was_lifted(
    began: datetime, start: int | None, incident: str
) -> None:
    past = [Past(OLD, processes=frozenset({Identity(41, 77)}), lifted=NOON)]
    assert belongs_to(Alarm(pid=41, start=start, began=began), past) == incident


@pytest.mark.parametrize(
    ("alarm", "incident"),
    [
        (Alarm(occurred=NOON - timedelta(minutes=1)), OLD),
        (Alarm(occurred=NOON + timedelta(minutes=1), began=NOON - timedelta(hours=1)), ""),
        (Alarm(occurred=NOON + timedelta(minutes=1), pid=41, start=77), ""),
        (Alarm(began=NOON - timedelta(hours=1)), ""),
        (Alarm(run=RUN), OLD),
    ],
)
def test_what_a_thaw_let_go_may_fail_again_and_only_an_alarm_from_before_it_is_old(alarm: Alarm, incident: str) -> None:
    past = Past(OLD, frozenset({RUN}), lifted=NOON, thawed=True)  # the run is one of the incident's own
    assert belongs_to(alarm, [past]) == incident
