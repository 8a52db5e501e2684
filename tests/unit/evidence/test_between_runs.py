"""Since when what changes in the root is by nobody known: by an incident's log."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from tasks.evidence.written_since import _stood_until

OPENED, DONE, LAST = {"action": "run opened"}, {"action": "step done", "step_id": "stop"}, {"action": "verdict"}
BEGUN, CAUGHT = {"action": "step started", "step_id": "stop"}, {"action": "came back"}
THAWED, UNCORDONED = {"action": "thawed"}, {"action": "uncordoned"}
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "until"),
    [
        ([OPENED, BEGUN, DONE, LAST], None),  # the first run
        ([OPENED, BEGUN, DONE, LAST, OPENED, DONE], 3),
        ([OPENED, BEGUN, DONE, LAST, CAUGHT, OPENED, CAUGHT, DONE], 6),  # what the guard caught last
        ([OPENED, BEGUN, DONE, LAST, OPENED, LAST, OPENED, BEGUN], 5),
        ([OPENED, LAST, OPENED, BEGUN, DONE], None),  # it ran until now
        ([OPENED, BEGUN, OPENED, BEGUN, DONE], None),  # the run died as it stopped it
        ([OPENED, BEGUN, DONE, THAWED, OPENED, DONE], None),
        ([OPENED, BEGUN, DONE, LAST, UNCORDONED, OPENED], None),
        ([OPENED, BEGUN, DONE, THAWED, OPENED, BEGUN, DONE, LAST, OPENED], 7),
        ([], None),
    ],
)
def test_between_two_runs_everything_stood_if_one_had_stopped_it_and_nobody_let_it_run(
    rows: list[dict[str, Any]], until: int | None
) -> None:
    times = [BEGAN + timedelta(seconds=number) for number in range(len(rows))]
    log = [{**row, "utc": at.isoformat()} for row, at in zip(rows, times, strict=True)]
    assert _stood_until(log) == (inf if until is None else times[until].timestamp())
