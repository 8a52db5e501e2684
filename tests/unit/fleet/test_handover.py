"""An order that a joined retry could not give is not lost: the run at work repeats it, and tells of it in the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.fleet import joined_state
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import TargetHost
from tasks.fleet import follow, handover
from tasks.fleet.follow import FleetWatch
from tasks.fleet.handover import hand_over, read_handover
from tasks.fleet.opening import JoinedFleet
from tasks.fleet.orders import Lost
from tests.unit.custody.fleet.test_order import INCIDENT
from tests.unit.fleet.test_opening import Server

FLEET = replace(INCIDENT, hosts=(TargetHost("gpu1", str(uuid4())), TargetHost("gpu2", str(uuid4()))))
LOST = {"gpu1": Lost("no order: 404", 2, "IR-20260102T030405Z")}
ROWS = [Row("gpu1", 1, "a", HostEnd.CRASHED, message="killed"), Row("gpu2", 1, "b", HostEnd.VERIFIED)]


class Notes(Server):
    """A server that gives each artifact an id."""

    def read_latest_artifacts(self, artifact_filter: Any, **_: object) -> list[Any]:
        """By key, the last first."""
        found = super().read_latest_artifacts(artifact_filter)
        return [SimpleNamespace(latest_id=id(each), data=each.data) for each in found]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Notes()

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield made

    monkeypatch.setattr(handover, "get_client", client)
    monkeypatch.setattr(follow, "get_client", client)
    return made


def test_what_a_joined_run_could_not_order_is_said_in_its_end_and_to_the_run_at_work(server: Server) -> None:
    joined = JoinedFleet(FLEET, "run r is at work")
    assert joined_state(joined, {}).type is StateType.COMPLETED
    assert not server.artifacts
    state = joined_state(joined, LOST)
    assert (state.type, state.name) == (StateType.FAILED, "Refused")
    assert "run r is at work" in str(state.message)
    assert "gpu1: no order: 404" in str(state.message)
    assert read_handover(server, FLEET.id)[1] == LOST  # type: ignore[arg-type]


def test_a_server_that_does_not_take_the_note_leaves_the_end(server: Server) -> None:
    server.errors.add("list")
    assert joined_state(JoinedFleet(FLEET, "joined"), LOST).name == "Refused"


@pytest.mark.parametrize("data", ["", "```json\n[]\n```", '```json\n{"gpu1": 7}\n```', '```json\n{"gpu1": {}}\n```'])
def test_a_note_that_cannot_be_read_is_none(server: Server, data: str) -> None:
    hand_over(FLEET, LOST)
    server.artifacts[0].data = data
    assert read_handover(server, FLEET.id)[1] == {}  # type: ignore[arg-type]


def looks(monkeypatch: pytest.MonkeyPatch, given: list[dict[str, Lost]]) -> tuple[FleetWatch, list[Any]]:
    """A watch whose server takes orders as given says, and what it was asked to give."""
    watch, asked = FleetWatch(FLEET, str(uuid4())), list[Any]()

    def give(_: object, wanted: list[tuple[TargetHost, int]], carried: dict[str, str], **__: object) -> dict[str, Lost]:
        asked.append(([(host.name, attempt) for host, attempt in wanted], carried))
        return given.pop(0) if len(given) > 1 else given[0]

    new = {"give": give, "rows_of": lambda *_: ROWS, "is_called_off": lambda *_: False, "_LOOK_SECONDS": 0.0}
    for name, value in new.items():
        monkeypatch.setattr(follow, name, value)
    monkeypatch.setattr(watch.closings, "check", lambda _, rows, __: rows)
    monkeypatch.setattr(watch._table, "show", lambda *_: None)
    return watch, asked


def test_the_run_at_work_repeats_it_once_it_is_handed_over(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    watch, asked = looks(monkeypatch, [LOST, {}])
    assert watch.look(server) == ROWS  # type: ignore[arg-type]
    hand_over(FLEET, LOST)
    first = watch.look(server)  # type: ignore[arg-type]
    assert [(row.end, row.doing) for row in first] == [(None, "not ordered again yet"), (HostEnd.VERIFIED, "")]
    watch.look(server)  # type: ignore[arg-type]
    assert asked == [([("gpu1", 2)], {"gpu1": "IR-20260102T030405Z"})] * 2
    watch.look(server)  # type: ignore[arg-type]
    assert len(asked) == 2, "it is heard of once"


@pytest.mark.usefixtures("server")
def test_no_fleet_ends_before_its_lost_orders_are_taken_or_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, asked = looks(monkeypatch, [LOST])

    def sleep(_: float) -> None:
        watch._since -= 25

    monkeypatch.setattr("tasks.fleet.follow.time.sleep", sleep)
    watch.problems = dict(LOST)
    (rows,) = follow.follow(watch, None)
    assert len(asked) > 1
    assert [row.end for row in rows] == [HostEnd.CRASHED, HostEnd.VERIFIED]
    assert rows[0].message == "attempt 2: no order: 404; killed"
