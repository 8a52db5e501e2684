"""Each fact of a run is asked once, and not at all if the worker has told it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.custody.incident.description import recognisable
from tasks.prestart import freeze
from tasks.prestart.freeze import freeze_for
from tasks.prestart.journal import EarlyFreeze, close_lock
from tasks.prestart.known_run import KnownRun
from tasks.prestart.reasons import NothingToFreeze, NotNow
from tests.support.workloads import SmallWorkload

NOW = datetime.now(UTC)
ANSWERS: dict[str, Any] = {
    "/flow_runs/one": {"flow_id": "f", "parameters": {"workload": "a b"}},
    "/flows/f": {"name": "evacuate"},
    "/block_types/slug/workload/block_documents/name/a%20b": {"data": {"host": "elsewhere", "root": "/srv/portfolio"}},
}

FIELDS = recognisable({"root": "/srv/portfolio"}, "elsewhere")


class Asked(list[str]):
    """A server's connection: what it was asked."""

    def __call__(self, path: str) -> Any:
        """Answer."""
        self.append(path)
        return ANSWERS[path]


def test_nothing_is_asked_twice_and_what_is_told_not_at_all() -> None:
    asked = Asked()
    run = KnownRun("one", asked)
    for _ in range(2):
        assert (run.parameters, run.flow, run.fields) == ({"workload": "a b"}, "evacuate", FIELDS)
    assert asked == list(ANSWERS)
    told = KnownRun("one", asked, dict(run.facts))
    assert (told.flow, told.fields) == ("evacuate", FIELDS)
    assert len(asked) == len(ANSWERS)


def test_a_dry_run_and_another_flow_cost_no_more_than_it_takes_to_know() -> None:
    asked = Asked()
    with pytest.raises(NothingToFreeze):
        freeze_for(KnownRun("one", asked, {"run": {"flow_id": "f", "parameters": {"dry_run": True}}}))
    assert asked == []
    with pytest.raises(NothingToFreeze):
        freeze_for(KnownRun("one", asked, {"run": {"flow_id": "f", "parameters": {}}, "flow": "train"}))
    assert asked == []


@pytest.mark.parametrize(
    ("incident", "new", "known"),
    [
        (None, False, True),
        ("IR-20200101T000000Z", False, False),
        ("IR-20200101T000000Z", True, True),
        ("IR-1", True, False),
    ],
)
def test_an_incident_with_an_id_that_was_issued_before_is_frozen_for_as_any_new_one(
    small: SmallWorkload,
    monkeypatch: pytest.MonkeyPatch,
    incident: str | None,
    new: bool,  # noqa: FBT001
    known: bool,  # noqa: FBT001
) -> None:
    frozen = list[object]()

    def freeze_(workload: object, *_: object) -> EarlyFreeze:
        frozen.append(workload)
        return EarlyFreeze(Path("x"), ())

    monkeypatch.setattr(freeze, "_freeze", freeze_)
    block = small.block()
    fields = block.model_dump(mode="json", include=set(type(block).model_fields))
    asked = {"parameters": {"workload": "w", "incident_id": incident, "new_incident": new}}
    run = KnownRun("one", Asked(), {"run": asked, "flow": "evacuate", "fields": fields})
    if known:
        close_lock(freeze_for(run))
    else:
        with pytest.raises(NotNow, match="unknown on this host"):
            freeze_for(run)
    assert len(frozen) == known


@pytest.mark.parametrize(
    ("start", "created", "due"),
    [
        (None, None, True),
        (NOW - timedelta(hours=1), NOW - timedelta(hours=2), True),
        (NOW + timedelta(days=5), NOW, False),
        (NOW + timedelta(days=5), NOW + timedelta(days=5), True),  # the server's clock is ahead of ours
        (NOW + timedelta(days=5), None, False),
    ],
)
def test_a_run_is_due_now_or_later(start: datetime | None, created: datetime | None, due: bool) -> None:  # noqa: FBT001
    times = {"expected_start_time": start and start.isoformat(), "created": created and created.isoformat()}
    run = KnownRun("one", Asked(), {"run": {"parameters": {}, **times}, "flow": "evacuate"})
    assert run.due is due
    if not due:
        with pytest.raises(NotNow, match="later"):
            freeze_for(run)
