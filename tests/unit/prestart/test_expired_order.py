"""An order of a fleet that stands no longer freezes nothing, not even before its run begins."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.prestart.freeze import freeze_early, freeze_for
from tasks.prestart.known_run import KnownRun
from tasks.prestart.reasons import NothingToFreeze
from tests.support.workloads import SmallWorkload
from tests.unit.custody.fleet.test_order import INCIDENT


def known(small: SmallWorkload, order: object, ahead: int = 0) -> KnownRun:
    """A run with this order, of which everything is known; its workload belongs to another host."""
    block = small.block(host="elsewhere")
    fields = block.model_dump(mode="json", include=set(type(block).model_fields))
    run = {"parameters": {"workload": "w", "order": order}}
    facts = {"run": run, "flow": "evacuate", "fields": fields}
    return KnownRun("r", {}.__getitem__, facts, lambda: datetime.now(UTC) + timedelta(minutes=ahead))


@pytest.mark.parametrize(
    ("minutes", "ahead", "stands"), [(-1, 0, False), (60, 0, True), (60, 61, False), (-60, -61, True)]
)
def test_an_order_freezes_only_while_it_stands_by_the_servers_clock(
    small: SmallWorkload,
    minutes: int,
    ahead: int,
    stands: bool,  # noqa: FBT001
) -> None:
    order = {
        **INCIDENT.order(INCIDENT.hosts[0], 1, INCIDENT.opened_at).parameters,
        "not_after": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(),
    }
    with pytest.raises(Exception if stands else NothingToFreeze) as raised:
        freeze_for(known(small, order, ahead))
    assert ("elsewhere" in str(raised.value)) is stands


def test_what_is_no_order_is_left_to_the_run(small: SmallWorkload, capsys: pytest.CaptureFixture[str]) -> None:
    assert freeze_early(known(small, {"fleet": "FL-?"})) is None
    assert "not frozen before the start of the run" in capsys.readouterr().err
