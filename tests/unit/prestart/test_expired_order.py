"""An order of a fleet that stands no longer freezes nothing, not even before its run begins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.prestart import freeze
from tasks.prestart.freeze import NothingToFreeze, freeze_early
from tests.support.workloads import SmallWorkload
from tests.unit.custody.fleet.test_order import INCIDENT


def serve(monkeypatch: pytest.MonkeyPatch, small: SmallWorkload, order: object) -> None:
    """A server that knows one run with this order."""
    block = small.block()
    fields = block.model_dump(mode="json", include=set(type(block).model_fields))
    answers = {
        "/flow_runs/r": {"parameters": {"workload": "w", "order": order}, "flow_id": "f"},
        "/flows/f": {"name": "evacuate"},
        "/block_types/slug/workload/block_documents/name/w": {"data": fields},
    }

    @contextmanager
    def ask_server(*_: object) -> Iterator[Callable[[str], Any]]:
        yield answers.__getitem__

    monkeypatch.setattr(freeze, "ask_server", ask_server)


@pytest.mark.parametrize(("minutes", "stands"), [(-1, False), (60, True)])
def test_an_order_freezes_only_while_it_stands(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, minutes: int, *, stands: bool
) -> None:
    order = {
        **INCIDENT.order(INCIDENT.hosts[0], 1, INCIDENT.opened_at).parameters,
        "not_after": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(),
    }
    serve(monkeypatch, small, order)
    environment = {"PREFECT__FLOW_RUN_ID": "r"}
    if stands:
        assert freeze._workload(environment)[0]["root"] == str(small.root)
    else:
        with pytest.raises(NothingToFreeze):
            freeze._workload(environment)
        assert freeze_early(environment) is None


def test_what_is_no_order_is_left_to_the_run(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, small, {"fleet": "FL-?"})
    assert freeze_early({"PREFECT__FLOW_RUN_ID": "r"}) is None
    assert "not frozen before the start of the run" in capsys.readouterr().err
