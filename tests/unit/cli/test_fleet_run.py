"""A fleet's run followed by hand: what the terminal shows last, and with which exit code it ends."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.fleet import fleet_state
from tasks.cli import fleet
from tasks.cli.fleet import fleet_by_hand
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.table import lines
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.fleet.record import FleetRecord
from tests.unit.custody.fleet.test_order import ID, INCIDENT

BEGUN = datetime.now(UTC)
WORKING = State(type=StateType.RUNNING)
SEALED = Row("gpu1", run="1", end=HostEnd.VERIFIED)
LOST = Row("gpu2", run="2", end=HostEnd.UNVERIFIED, message="2 objects are not proven")
SILENT = Row("gpu2", run="2", end=HostEnd.SILENT, stands=True, not_after=BEGUN + timedelta(hours=1))


class Server:
    """A server on which a fleet's run goes through states, each with the table that it shows then."""

    def __init__(self, *moments: tuple[State, Sequence[Row]]) -> None:
        """The last moment stays."""
        self.moments, self.parameters = list(moments), dict[str, Any]()

    def read_deployment_by_name(self, name: str) -> Any:
        """The fleet's only."""
        assert name == "fleet/evacuate-fleet-lab"
        return SimpleNamespace(id=uuid4())

    def create_flow_run_from_deployment(self, _: UUID, *, parameters: dict[str, Any]) -> Any:
        """One run."""
        self.parameters = parameters
        return SimpleNamespace(id=UUID(int=7), created=BEGUN)

    def read_flow_run(self, run: UUID) -> Any:
        """The run as it stands now."""
        assert run == UUID(int=7)
        return SimpleNamespace(state=self.moments[0][0])

    def read_latest_artifacts(self, **_: object) -> list[Any]:
        """An older table, and that of the run; the next look finds the next moment."""
        rows = (self.moments.pop(0) if len(self.moments) > 1 else self.moments[0])[1]
        shown = "\n".join(lines(INCIDENT, rows, None)) if rows else ""
        old = SimpleNamespace(data="```text\nold\n```", updated=BEGUN - timedelta(1))
        return [old, SimpleNamespace(data=f"```text\n{shown}\n```", updated=BEGUN + timedelta(seconds=1))]


def followed(monkeypatch: pytest.MonkeyPatch, server: Server, *, as_json: bool = False) -> int:
    """Type `evacuation fleet run lab`; the exit code."""

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(fleet, "get_client", client)
    monkeypatch.setattr(fleet, "_LOOK_SECONDS", 0)
    with temporary_settings({PREFECT_API_URL: "http://server/api"}):
        return fleet_by_hand("run", "lab", None, {"reason": "a test"}, as_json=as_json)


def ended(*rows: Row) -> State[Any]:
    """The state in which the flow ends by the ends of its hosts."""
    return fleet_state(ID, verdict_of([row.host for row in rows], rows), FleetRecord("s3://b/fleets/x", ""))


@pytest.mark.parametrize(
    ("rows", "end"), [((SEALED,), HostEnd.VERIFIED), ((SEALED, LOST), HostEnd.UNVERIFIED)], ids=["all", "one less"]
)
def test_table_message_next_step_and_exit_code_stand_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rows: Sequence[Row], end: HostEnd
) -> None:
    state = ended(*rows)
    moments = (WORKING, ()), (WORKING, [Row("gpu1", run="1")]), (state, rows)
    server = Server(*moments)
    code = followed(monkeypatch, server)
    assert (code, code == 0) == (EXIT_CODES[end], end is HostEnd.VERIFIED)
    assert server.parameters == {"reason": "a test", "retry": False, "fleet_id": None}
    shown = capsys.readouterr().out.splitlines()
    table = list(lines(INCIDENT, rows, None))
    message, took, then, last = shown[-4:]
    assert shown[-4 - len(table) : -4] == table
    assert "old" not in shown
    assert message == f"{end}: {state.message}"
    assert took.startswith("  took      total_s=")
    assert then.startswith("  next      ")
    assert len(then.split()) > 1
    assert last == f"  exit      {code}"
    assert ("  ! gpu2: 2 objects are not proven" in shown) is (end is HostEnd.UNVERIFIED)
    followed(monkeypatch, Server(*moments), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["exit_code"], told["message"], told["table"]) == (end, code, state.message, table)
    assert f"  next      {told['next']}" == then


def test_hosts_that_stay_silent_are_not_waited_for_and_that_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = followed(monkeypatch, Server((WORKING, ()), (WORKING, (SEALED, SILENT))))
    shown = capsys.readouterr().out.splitlines()
    assert code == EXIT_CODES[HostEnd.SILENT] != 0
    assert shown[-4] == f"Silent: the run waits for silent hosts: {UUID(int=7)}"
    assert "orders of silent hosts stand until" in shown[-5]
    assert shown[-1] == f"  exit      {code}"


def test_a_run_that_crashed_is_no_success_whatever_its_table_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crashed = State(type=StateType.CRASHED, name="Crashed", message="the worker died")
    code = followed(monkeypatch, Server((crashed, (SEALED,))))
    assert code == EXIT_CODES["Crashed"] != 0
    assert "Crashed: the worker died" in capsys.readouterr().out
