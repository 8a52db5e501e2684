"""A fleet called off by hand: what could not be taken back is named, and is no success."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.cli import fleet
from tasks.cli.fleet import fleet_by_hand
from tasks.custody.fleet.host_end import Row
from tasks.custody.incident.exit_codes import INCOMPLETE
from tests.unit.custody.fleet.test_order import ID, INCIDENT
from tests.unit.fleet.test_orders import Server, http_error


@pytest.mark.parametrize(("fails", "code"), [(True, INCOMPLETE), (False, 0)])
def test_an_order_that_could_not_be_taken_back_is_named_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, *, fails: bool
) -> None:
    server, rows = Server(), [Row(f"gpu{number}", run=str(uuid4()), waits=True) for number in (1, 2)]
    server.states = {row.run: StateType.SCHEDULED for row in rows}
    if fails:
        server.errors[rows[1].run] = [http_error(500)]

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(fleet, "get_client", client)
    monkeypatch.setattr(fleet, "the_incident", lambda *_: INCIDENT)
    monkeypatch.setattr(fleet, "rows_of", lambda *_: rows)

    def cancel(*, as_json: bool) -> str:
        server.states[rows[0].run] = StateType.SCHEDULED
        with temporary_settings({PREFECT_API_URL: "http://server/api"}):
            assert fleet_by_hand("cancel", "lab", None, {"reason": ""}, as_json=as_json) == code
        return capsys.readouterr().out

    assert ("NOT cancelled, and may still begin: gpu2" in cancel(as_json=False)) is fails
    if fails:
        said = json.loads(cancel(as_json=True))
        assert (said["fleet"], said["cancelled"], said["left"]) == (ID, ["gpu1"], ["gpu2"])
