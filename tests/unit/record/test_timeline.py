"""The timeline: bars of steps and moments of containment, read from a custody log however it was cut off."""

from datetime import timedelta
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.incident.timeline import EARLY, Course, Moment, in_order, runs
from tasks.rendering.picture import picture, tick_seconds
from tests.support.report_factory import at, entry, log_of

COLLECT = "§4 collect a reason"


def test_attempts_are_bars_of_their_own_and_say_how_they_went() -> None:
    first, _ = runs(log_of("a reason"))
    bars = in_order(first.bars)[COLLECT]
    assert [(bar.attempt, bar.course, bar.began, bar.ended) for bar in bars] == [
        (1, Course.INCOMPLETE, at(0.4), at(0.6)),
        (2, Course.FAILED, at(0.7), at(0.9)),
    ]


def test_the_moment_of_containment_is_the_end_of_the_first_freeze_that_held() -> None:
    first, second = runs(log_of("a reason"))
    assert first.moments == {Moment.FROZEN: at(0.3), Moment.NONE_LEFT: at(1.2)}
    assert second.moments == {}


def test_a_run_tells_when_it_was_triggered_if_its_log_does() -> None:
    first, second = runs([entry(5, "run opened", triggered=at(2).isoformat()), entry(9, "run opened")])
    assert (first.triggered, second.triggered) == (at(2), None)


def test_steps_are_known_by_their_ids_whatever_their_titles_say() -> None:
    left = {"step_id": "prove_contained", "seconds": 1}
    frozen = entry(2, "step done", "§2 a new title", step_id="freeze", seconds=1)
    (run,) = runs([entry(0, "run opened"), frozen, entry(3, "step done", "§3 another", **left)])
    assert run.moments == {Moment.FROZEN: at(2), Moment.NONE_LEFT: at(3)}


def test_a_freeze_that_failed_is_no_containment() -> None:
    (run,) = runs([entry(0, "run opened"), entry(1, "step incomplete", "§2 freeze the workload", seconds=0.5)])
    assert run.moments == {}


def test_a_step_that_an_earlier_run_never_ended_was_cut_off_and_that_of_the_last_is_under_way() -> None:
    first, second = runs(log_of("a reason"))
    assert [bar.course for bar in first.bars if bar.step == "§5 offload"] == [Course.CUT_OFF]
    assert [bar.course for bar in second.bars] == [Course.UNDER_WAY]
    assert second.cached == (COLLECT,)


def test_what_was_frozen_before_the_run_could_tell_of_it_begins_the_timeline() -> None:
    entries = [
        entry(5, "run opened", number=1),
        entry(6, "frozen", "7", at=at(1).isoformat()),
        entry(6, "frozen", "8", at=at(2).isoformat()),
        entry(6, "frozen", "9", at=at(5.5).isoformat()),
    ]
    (run,) = runs(entries)
    assert run.began == at(1)
    assert [(bar.step, bar.began, bar.ended) for bar in run.bars] == [(EARLY, at(1), at(2))]


def test_a_process_that_could_not_be_frozen_costs_no_timeline() -> None:
    (run,) = runs([entry(5, "run opened", number=1), entry(6, "frozen", "7", at="None", denied="SIGSTOP denied")])
    assert run.bars == ()


def test_an_end_without_a_beginning_is_reckoned_from_its_seconds() -> None:
    (run,) = runs([entry(10, "step done", "§6 check", seconds=4.0)])
    assert run.bars[0].began == at(6)


def test_a_clock_that_was_set_back_makes_no_bar_that_runs_backwards() -> None:
    (run,) = runs([entry(10, "step started", "§6 check"), entry(3, "step done", "§6 check", seconds=1.0)])
    assert run.bars[0].duration == timedelta(0)
    assert run.ended >= run.began


def test_an_empty_log_has_no_runs() -> None:
    assert runs([]) == ()


@given(
    st.lists(
        st.tuples(
            st.floats(-5, 100_000),
            st.sampled_from(["run opened", "step started", "step done", "step failed", "step cached", "frozen"]),
            st.text(max_size=8),
        ),
        max_size=40,
    )
)
def test_every_log_can_be_drawn(found: list[tuple[float, str, str]]) -> None:
    told = runs([entry(when, action, subject, at=at(0).isoformat()) for when, action, subject in found])
    assert all(bar.began <= bar.ended for run in told for bar in run.bars)
    root = fromstring(picture(told, "IR-x"))  # noqa: S314  our own drawing
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(rect.attrib["x"]) <= width
        assert float(rect.attrib["width"]) > 0
        assert float(rect.attrib["y"]) <= height


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1, 6.4, 59, 3600, 86_400, 10_000_000])
def test_the_time_axis_has_few_enough_marks_to_be_read(seconds: float) -> None:
    assert 0 < seconds / tick_seconds(seconds) <= 10


def test_the_picture_of_many_runs_shows_the_last_and_counts_the_others() -> None:
    entries = [entry(n, "run opened", number=n) for n in range(1, 30)]
    text = picture(runs(entries), "IR-x")
    assert "実行 29 / run 29" in text
    assert "21 earlier runs" in text
    assert "run 5<" not in text
