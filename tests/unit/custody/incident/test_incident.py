"""Incident ids: what is one, what is not, and how a new one is named."""

import re
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.errors import Refused
from tasks.custody.incident.incident import SKEW, Incident, is_ahead, new_id, parse_id, require_issued

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "IR-20260102T030405Z",
        "IR-20240229T235959Z",
        "IR-20260102T030405Z-gpu-01",
        "IR-20260102T030405Z-gpu-01.lab.example",
        "IR-20260102T030405Z-" + "a" * 63,
    ],
)
def test_an_id_of_the_runbooks_shape_is_accepted_unchanged(text: str) -> None:
    assert parse_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../x",
        "IR-20260102T030405Z/../x",
        "a" * 300,
        "IR-20260102T030405Z-" + "a" * 300,
        "IR-20260102T030405Z-" + "a" * 64,
        "ir-20260102T030405Z",
        "IR-20260102t030405z",
        "IR-20260230T000000Z",
        "IR-20261301T000000Z",
        "IR-20260102T250000Z",
        "IR-00000101T000000Z",
        "IR-20260102T030405Z\n",
        "\nIR-20260102T030405Z",
        "IR-20260102T030405Z\0",
        "IR-20260102T030405",
        "IR-20260102T030405Z-",
        "IR-20260102T030405Z--host",
        "IR-20260102T030405Z-.host",
        "IR-20260102T030405Z-a..b",
        "IR-20260102T030405Z-..",
        "IR-20260102T030405Z-Host",
        "IR-20260102T030405Z-a/b",
        "IR-20260102T030405Z-ホスト",
        "IR-٢٠٢٦0102T030405Z",
    ],
)
def test_anything_else_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(Refused) as raised:
        parse_id(text)
    assert "Nothing was touched." in str(raised.value)
    assert len(str(raised.value)) < 500


@given(st.from_regex(r"IR-\d{8}T\d{6}Z(-.{0,5})?"))
def test_what_is_accepted_is_one_safe_ascii_segment(text: str) -> None:
    try:
        accepted = parse_id(text)
    except Refused:
        return
    assert accepted.isascii()
    assert "/" not in accepted
    assert ".." not in accepted


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-14, 14))  # noqa: DTZ001  hypothesis wants bounds without a zone
def test_a_new_id_is_an_id_and_names_the_moment_in_utc(naive: datetime, hours: int) -> None:
    created = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    named = new_id(created)
    assert parse_id(named) == named
    assert named == new_id(created.astimezone(UTC))


def test_a_time_in_tokyo_is_named_in_utc() -> None:
    assert new_id(datetime(2026, 1, 2, 8, 0, tzinfo=timezone(timedelta(hours=9)))) == "IR-20260101T230000Z"


def test_the_snapshot_bears_the_incidents_own_stamp() -> None:
    for text in ("IR-20260102T030405Z", "IR-20260102T030405Z-gpu-01"):
        incident = Incident(text, "w", "h", "b", NOW, NOW, "r", "o")
        assert f"IR-{incident.snapshot}" == text


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.sampled_from(["", "gpu-1"]))  # noqa: DTZ001  hypothesis wants naive bounds
def test_an_id_is_from_the_future_when_its_time_is_further_off_than_clocks_may_differ(at: datetime, host: str) -> None:
    at = at.replace(microsecond=0)
    for seconds, ahead in ((1, False), (-1, True)):
        assert is_ahead(new_id(at, host), at - SKEW + timedelta(seconds=seconds)) is ahead
    assert not is_ahead("", at)
    assert is_ahead("a name that sorts after every id", at)


@pytest.mark.parametrize(
    ("incident", "suffix", "newest", "cure"),
    [
        ("IR-20260102T030405Z", "", "", ""),
        ("IR-20260102T030405Z-h1", "h1", "IR-20260102T030404Z", ""),
        ("IR-20260102T030405Z", "h1", "", "Give …Z-h1."),
        ("IR-20260103T030405Z", "", "", "Leave incident_id and new_incident out"),
        ("IR-20200102T030405Z", "", "", "Leave incident_id and new_incident out"),
        ("IR-20260102T030405Z", "", "IR-20260102T030405Z", "Leave new_incident out to carry that incident on"),
    ],
)
def test_the_id_of_a_new_incident_is_of_its_time_and_workload(
    incident: str, suffix: str, newest: str, cure: str
) -> None:
    now = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    with pytest.raises(Refused, match=re.escape(cure)) if cure else nullcontext():
        require_issued(incident, now, suffix, newest)
