"""No host that may be frozen is told as thawed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.custody.fleet.attempt import Attempt
from tasks.custody.fleet.host_end import Row, row_of
from tasks.fleet.show import contained_picture
from tasks.fleet.thaw import _may_be_frozen, _outcome
from tests.unit.custody.fleet.test_order import INCIDENT

NOW = datetime.now(UTC)
CLIENT: Any = None


def ended(kind: str, state: str, frozen: str) -> Row:
    """A host whose run has ended so; `frozen` is its label."""
    soon = NOW + timedelta(hours=1)
    message = "Refused: no" if state == "Failed" else "told"
    return row_of("gpu1", "", Attempt(1, "r", kind, state, message, soon, NOW, NOW, frozen=frozen), NOW, NOW)


@pytest.mark.parametrize(
    ("kind", "state"), [("FAILED", "Failed"), ("FAILED", "Expired"), ("CANCELLED", "Expired"), ("CRASHED", "Crashed")]
)
def test_a_run_that_ended_badly_with_its_host_frozen_is_thawed_first(kind: str, state: str) -> None:
    assert _may_be_frozen(ended(kind, state, NOW.isoformat()))
    assert _may_be_frozen(ended(kind, state, "")) == (state == "Crashed")


def test_what_is_partly_thawed_is_left() -> None:
    partly, thawed = ended("FAILED", "PartlyThawed", "x"), ended("COMPLETED", "Thawed", "x")
    assert _outcome(CLIENT, partly, {}) == "PartlyThawed: told"
    assert _outcome(CLIENT, thawed, {}) == ""
    assert not _may_be_frozen(partly)
    assert _outcome(CLIENT, ended("FAILED", "Expired", ""), {}) == ""


@pytest.mark.parametrize("label", ["yes", "2026-11-26T14:00:00"])
def test_a_label_that_is_no_time_stops_no_picture(label: str) -> None:
    assert "0 / 1" in contained_picture(INCIDENT, [Row("gpu1", contained=label)])
