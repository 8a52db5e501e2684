"""An alarm that is older than its workload allows freezes nothing, and people are told the line that evacuates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.custody.incident.alarm import Alarm
from tasks.preflight import open_incident
from tasks.preflight.open_incident import Request, _stale
from tasks.prestart.freeze import freeze_for
from tasks.prestart.known_run import KnownRun
from tasks.prestart.reasons import NothingToFreeze, NotNow
from tests.support.workloads import SmallWorkload

MINUTE = timedelta(minutes=1)


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - minutes * MINUTE).isoformat()


def known(block: Workload, occurred: object, created: str, ahead: float = 0, **more: Any) -> KnownRun:
    """An alarm's run, of which everything is known; its workload belongs to another host."""
    fields = block.model_dump(mode="json", include=set(type(block).model_fields))
    alarm = {"event": "training.failed", "occurred": occurred}
    run = {"parameters": {"workload": "w", "alarm": alarm, **more}, "created": created}
    facts = {"run": run, "flow": "evacuate", "fields": fields}
    return KnownRun("r", {}.__getitem__, facts, lambda: datetime.now(UTC) + ahead * MINUTE)


CASES = [
    pytest.param(1, 1, 0, 600, False, id="young"),
    pytest.param(9.9, 9.9, 0, 600, False, id="just young enough"),
    pytest.param(16, 16, 0, 600, True, id="no worker came"),
    pytest.param(16, 1, 0, 600, True, id="its event came late"),
    pytest.param(None, 16, 0, 600, True, id="it has no time: its run has one"),
    pytest.param("yesterday", 1, 0, 600, False, id="a time that is none makes it no older"),
    pytest.param(16, -59, 60, 600, False, id="a host's clock an hour behind the server makes it no older"),
    pytest.param(-44, -44, 60, 600, True, id="by the server's clock it is old, though not by the host's"),
    pytest.param(16, 16, 0, 3600, False, id="the block allows an hour"),
    pytest.param(0.5, 0.5, 0, 10, True, id="the block allows ten seconds"),
]


@pytest.mark.parametrize(("occurred", "created", "ahead", "limit", "stale"), CASES)
def test_the_start_of_a_run_and_the_run_itself_agree_on_which_alarm_is_too_old(  # noqa: PLR0913, PLR0917
    small: SmallWorkload,
    monkeypatch: pytest.MonkeyPatch,
    occurred: float | str | None,
    created: float,
    ahead: float,
    limit: float,
    stale: bool,  # noqa: FBT001
) -> None:
    block = small.block(host="elsewhere", alarm_max_age=limit)
    time = ago(occurred) if isinstance(occurred, float | int) else occurred
    with pytest.raises(NothingToFreeze if stale else NotNow):  # the workload is on another host
        freeze_for(known(block, time, ago(created), ahead))
    monkeypatch.setattr(open_incident, "find_server_time", lambda: datetime.now(UTC) + ahead * MINUTE)
    told = _stale(request(time, ago(created)), block)
    assert bool(told) is stale
    if stale:
        assert "prefect deployment run evacuate/evacuate-w --watch" in told
        assert "evacuation run evacuation.toml:w" in told
        assert told.startswith("w: "), "no text of an alarm stands where people look for the incident"


def request(occurred: str | None, created: str, **more: Any) -> Request:
    alarm = Alarm.of({"event": "training.failed", "occurred": occurred})
    of_whom = {"workload": "w", "store": "s", "reason": "", "detected_at": None, "incident_id": None, "dry_run": False}
    when = datetime.fromisoformat(created)
    return Request(**{**of_whom, "policy": "graceful", "run": "r", "created": when, "alarm": alarm, **more})


def test_a_person_who_names_the_incident_rehearses_or_raises_no_alarm_is_never_too_late(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_incident, "find_server_time", lambda: None)
    block, old = small.block(host="elsewhere"), ago(60)
    with pytest.raises(NotNow):
        freeze_for(known(block, old, old, incident_id="IR-20200101T000000Z"))
    assert _stale(request(old, old), block)
    named: tuple[dict[str, Any], ...] = ({"incident_id": "IR-20200101T000000Z"}, {"dry_run": True}, {"alarm": None})
    for more in named:
        assert _stale(request(old, old, **more), block) == ""


def test_a_block_that_was_saved_before_there_was_an_age_has_the_usual_one(small: SmallWorkload) -> None:
    run = known(small.block(host="elsewhere"), ago(16), ago(16))
    del run.facts["fields"]["alarm_max_age"]
    with pytest.raises(NothingToFreeze):
        freeze_for(run)
