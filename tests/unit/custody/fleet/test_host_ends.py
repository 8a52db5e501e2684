"""Each host has exactly one end, and none is green that is not known to be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Unknown, describe_stopped
from tasks.custody.fleet.attempt import Attempt
from tasks.custody.fleet.host_end import Closed, HostEnd, Row, closed_row, expires, is_silent, row_of
from tasks.custody.fleet.retry import to_retry
from tasks.custody.fleet.verdict import all_that_answer_contained, is_settled, over, verdict_of

NOW = datetime(2026, 11, 26, 14, 30, tzinfo=UTC)
SOON, AGO = NOW + timedelta(minutes=30), NOW - timedelta(minutes=28)
ID = "IR-20261126T140000Z-gpu1"
NODE = Unknown(Identity(7, 1), "node serve.js", "it works in the root", "")
RUN = Attempt(1, "r", "RUNNING", "Running", "", SOON, ordered=AGO, began=AGO)
CLOSED = Closed("VERIFIED", "incidents/x", "0" * 64, NOW, "r")
KINDS = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")
NAMES = ("Verified", "Partial", "Unverified", "NotContained", "NotRecovered", "Failed", "Completed", "Joined", "Odd")
attempts = st.builds(
    Attempt,
    number=st.integers(1, 3),
    run=st.just("r"),
    kind=st.sampled_from(KINDS),
    state=st.sampled_from([*NAMES, "Thawed", "Expired", "Late", "TimedOut", "Crashed", "DryRun", "PartlyThawed"]),
    message=st.sampled_from(["", f"{ID}: VERIFIED", "Flow run encountered an exception: Refused: no"]),
    not_after=st.sampled_from([SOON, AGO]),
    ordered=st.just(AGO),
    began=st.sampled_from([None, AGO]),
    contained=st.sampled_from(["", NOW.isoformat()]),
)
seens = st.sampled_from([None, NOW, NOW - timedelta(seconds=46), NOW - timedelta(hours=1)])
closings = st.sampled_from(
    [None, CLOSED, replace(CLOSED, word="PARTIAL"), replace(CLOSED, closed=AGO), replace(CLOSED, run="x")]
)


def final(kind: str, state: str, message: str = f"{ID}: told") -> Attempt:
    return replace(RUN, kind=kind, state=state, message=message)


@pytest.mark.parametrize(
    ("attempt", "end"),
    [
        (final("COMPLETED", "Verified"), HostEnd.VERIFIED),
        (final("FAILED", "Partial"), HostEnd.PARTIAL),
        (final("FAILED", "Unverified"), HostEnd.UNVERIFIED),
        (final("FAILED", "NotContained"), HostEnd.NOT_CONTAINED),
        (final("FAILED", "NotRecovered"), HostEnd.NOT_RECOVERED),
        (final("FAILED", "PartlyRecovered"), HostEnd.NOT_RECOVERED),
        (final("FAILED", "Expired"), HostEnd.EXPIRED),
        (final("CANCELLED", "Expired"), HostEnd.EXPIRED),
        (final("CANCELLED", "Cancelled"), HostEnd.CANCELLED),
        (final("CRASHED", "Crashed"), HostEnd.CRASHED),
        (final("FAILED", "TimedOut"), HostEnd.CRASHED),
        (final("FAILED", "Failed", "Flow run encountered an exception: Refused: expected a host"), HostEnd.REFUSED),
        (final("FAILED", "Failed", "Flow run encountered an exception: OSError: no"), HostEnd.CRASHED),
        (final("COMPLETED", "Thawed"), HostEnd.THAWED),
        (final("COMPLETED", "Completed"), HostEnd.UNVERIFIED),
        (final("COMPLETED", "DryRun"), HostEnd.UNVERIFIED),
        (final("FAILED", "Verified"), HostEnd.CRASHED),
    ],
)
def test_the_end_of_a_run(attempt: Attempt, end: HostEnd) -> None:
    assert row_of("gpu1", "", attempt, NOW, NOW).end is end
    assert row_of("gpu1", "", attempt, None, NOW).end is end, "a host that has ended is not silent"


@given(attempts, seens, closings)
def test_only_a_run_that_says_so_and_a_closing_that_says_so_are_verified(
    attempt: Attempt, seen: datetime | None, closing: Closed | None
) -> None:
    row = closed_row(row_of("gpu1", "", attempt, seen, NOW), closing, NOW)
    if row.end is HostEnd.VERIFIED:
        assert closing
        assert closing.word == "VERIFIED"
        assert closing.closed > AGO or closing.run == "r"
        assert attempt.kind == "COMPLETED"
        assert (attempt.state == "Verified" and closing.run == "r") or attempt.is_joined


@given(attempts, seens)
def test_a_host_that_gives_no_sign_is_silent_unless_it_has_ended(attempt: Attempt, seen: datetime | None) -> None:
    row = row_of("gpu1", "", attempt, seen, NOW)
    quiet = is_silent(seen, NOW) and not (attempt.final and not attempt.is_joined)
    assert (row.end is HostEnd.SILENT) == quiet
    assert row.end or not attempt.final or attempt.is_joined, "whatever is final has an end"


def test_a_silent_host_stands_until_its_order_is_cancelled() -> None:
    waiting = replace(RUN, kind="SCHEDULED", state="Late", began=None)
    row = row_of("gpu1", "", waiting, None, NOW)
    assert (row.end, row.stands, expires(row, NOW)) == (HostEnd.SILENT, True, False)
    late = row_of("gpu1", "", replace(waiting, not_after=AGO), None, NOW)
    assert (late.end, late.stands, expires(late, NOW)) == (HostEnd.SILENT, True, True), "it is cancelled first"
    begun = row_of("gpu1", "", replace(RUN, not_after=AGO), None, NOW)
    assert (begun.end, begun.stands, expires(begun, NOW)) == (HostEnd.SILENT, False, False), "what began is left alone"
    assert not expires(row_of("gpu1", "", replace(RUN, not_after=AGO), NOW, NOW), NOW)


def test_silence_begins_after_45_seconds() -> None:
    assert not is_silent(NOW - timedelta(seconds=45), NOW)
    assert is_silent(NOW - timedelta(seconds=46), NOW)
    assert is_silent(None, NOW)
    assert row_of("gpu1", "", RUN, AGO, NOW).label == "Silent, last seen 14:02 UTC"


def test_a_host_without_a_run_is_refused_silent_or_open() -> None:
    assert row_of("gpu1", "no deployment evacuate/gpu1", None, NOW, NOW).end is HostEnd.REFUSED
    silent = row_of("gpu1", "", None, None, NOW)
    assert (silent.end, silent.stands) == (HostEnd.SILENT, True), "an order may still come to be"
    assert row_of("gpu1", "", None, NOW, NOW).end is None


def test_a_run_that_has_joined_ends_as_the_first_closing_after_its_order() -> None:
    row = row_of("gpu1", "", final("COMPLETED", "Joined"), NOW, NOW)
    assert row.end is None
    assert row.incident == ID
    assert closed_row(row, None, NOW).end is None
    assert closed_row(row, replace(CLOSED, closed=AGO), NOW).end is None, "an old closing says nothing"
    assert closed_row(row, CLOSED, NOW).end is HostEnd.VERIFIED
    assert closed_row(row, replace(CLOSED, word="NOTCONTAINED"), NOW).end is HostEnd.NOT_CONTAINED
    assert closed_row(row, replace(CLOSED, run="another"), NOW).end is HostEnd.VERIFIED
    assert closed_row(row, None, SOON + timedelta(seconds=1)).end is HostEnd.UNVERIFIED
    nameless = closed_row(row_of("gpu1", "", final("COMPLETED", "Joined", "joined"), NOW, NOW), None, NOW)
    assert nameless.end is HostEnd.UNVERIFIED, "no closing of it can come: it may be ordered again"


@pytest.mark.parametrize("other", [replace(CLOSED, run="x"), replace(CLOSED, run="x", closed=AGO)])
def test_the_closing_of_another_run_or_of_an_older_incident_proves_nothing(other: Closed) -> None:
    row = row_of("gpu1", "", final("COMPLETED", "Verified"), NOW, NOW)
    assert closed_row(row, CLOSED, NOW).closing is CLOSED
    found = closed_row(row, other, NOW)
    assert (found.end, found.closing) == (HostEnd.UNVERIFIED, None)
    assert f"its last closing is of run {other.run}" in found.message


def test_unverified_is_contained_only_if_its_run_has_said_so() -> None:
    odd = row_of("gpu1", "", final("COMPLETED", "DryRun"), NOW, NOW)
    joined = closed_row(row_of("gpu1", "", final("COMPLETED", "Joined", ""), NOW, NOW), None, NOW)
    assert (odd.end, odd.is_contained) == (HostEnd.UNVERIFIED, False)
    assert (joined.end, joined.is_contained) == (HostEnd.UNVERIFIED, False)
    assert row_of("gpu1", "", final("FAILED", "Unverified"), NOW, NOW).is_contained
    assert replace(odd, contained=NOW.isoformat()).is_contained


def test_who_has_unknown_processes_is_contained_by_no_word_and_no_label() -> None:
    row = row_of("gpu1", "", final("FAILED", "Unanswered"), NOW, NOW)
    assert (row.end, row.is_contained, row.is_uncontained) == (HostEnd.UNANSWERED, False, True)
    assert not replace(row, contained=NOW.isoformat()).is_contained, "it came after the label"
    said = f"UNVERIFIED. Safe: {describe_stopped([NODE])}; 2 files. Missing: {NODE.summary}"
    worse = row_of("gpu1", "", final("FAILED", "Unverified", said), NOW, NOW)
    assert (worse.end, replace(worse, contained=NOW.isoformat()).is_contained) == (HostEnd.UNVERIFIED, False)
    assert closed_row(row, replace(CLOSED, word="UNANSWERED"), NOW).end is HostEnd.UNANSWERED
    green = row_of("gpu1", "", final("COMPLETED", "Verified"), NOW, NOW)
    assert closed_row(green, replace(CLOSED, word="UNANSWERED"), NOW).end is HostEnd.UNVERIFIED


@pytest.mark.parametrize(
    "label", ["yes", "2026-11-26T14:00:00", "9999-12-31T23:59:59+00:00", "2026-13-26T14:00:00+00:00"]
)
def test_a_label_that_is_no_time_is_skipped(label: str) -> None:
    row = Row("gpu1", contained=label)
    assert (row.contained_at, row.is_contained) == (None, False)
    assert replace(row, contained=NOW.isoformat()).contained_at == NOW


def test_what_failed_once_it_was_frozen_is_not_refused() -> None:
    refused = final("FAILED", "Failed", "Flow run encountered an exception: Refused: no")
    assert row_of("gpu1", "", refused, NOW, NOW).end is HostEnd.REFUSED
    assert row_of("gpu1", "", replace(refused, frozen=NOW.isoformat()), NOW, NOW).end is HostEnd.CRASHED


ends = st.sampled_from([*HostEnd, None])
lines = st.lists(
    st.tuples(st.sampled_from([f"gpu{number}" for number in range(9)]), ends), unique_by=lambda item: item[0]
)


@given(lines, lines)
def test_a_fleet_is_verified_only_if_each_host_of_its_list_is(
    wanted: list[tuple[str, HostEnd | None]], told: list[tuple[str, HostEnd | None]]
) -> None:
    hosts = [name for name, _ in wanted]
    rows = [Row(name, end=end) for name, end in told]
    if not hosts:
        with pytest.raises(ValueError, match="expected a fleet with hosts"):
            verdict_of(hosts, rows)
        return
    verdict = verdict_of(hosts, rows)
    by_host = dict(told)
    assert (verdict.end is HostEnd.VERIFIED) == all(by_host.get(name) is HostEnd.VERIFIED for name in hosts)
    assert verdict.end in {by_host.get(name) or HostEnd.CRASHED for name in hosts}, "the end of a host of the list"


@given(st.lists(ends))
def test_an_open_host_keeps_the_fleet_open_and_is_not_ordered_again(some: list[HostEnd | None]) -> None:
    rows = [Row(f"gpu{number}", end=end, stands=end is HostEnd.SILENT) for number, end in enumerate(some)]
    assert is_settled(rows) == (None not in some)
    assert over(rows) == (None not in some and HostEnd.SILENT not in some)
    assert {row.end for row in to_retry(rows)} == set(some) - {None, HostEnd.VERIFIED, HostEnd.THAWED}


def test_all_that_answer_are_contained_when_only_silent_ones_are_left() -> None:
    contained, silent = Row("gpu1", contained=NOW.isoformat()), Row("gpu3", end=HostEnd.SILENT)
    assert all_that_answer_contained([contained, silent])
    assert all_that_answer_contained([row_of("gpu1", "", final("FAILED", "Unverified"), NOW, NOW), silent])
    assert not all_that_answer_contained([contained, Row("gpu2", doing="begun"), silent])
    assert not all_that_answer_contained([Row("gpu1", end=HostEnd.CRASHED), contained])
    assert not all_that_answer_contained([silent]), "nobody answers"
    assert not all_that_answer_contained([replace(contained, end=HostEnd.NOT_CONTAINED)]), "it has come back"
    assert not all_that_answer_contained([replace(contained, end=HostEnd.THAWED)])
