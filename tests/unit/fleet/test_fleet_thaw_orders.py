"""Thaw of a fleet: whoever asks late is answered too, nothing is ordered afterwards, and no old thaw is believed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import TargetHost
from tasks.fleet import follow, thaw
from tasks.fleet.claim import call_off, is_called_off
from tasks.fleet.follow import FleetWatch
from tasks.fleet.opening import JoinedFleet, open_fleet
from tasks.fleet.orders import Lost
from tests.unit.custody.fleet.test_order import INCIDENT
from tests.unit.fleet.test_opening import Server, opened, server, trigger

__all__ = ["server"]
ONE = replace(INCIDENT, hosts=(TargetHost("gpu1"),))


class Thaws(Server):
    """A server that makes a run of each thaw, which ends Thawed with a message."""

    def __init__(self, message: str) -> None:
        """Nothing is made yet."""
        super().__init__()
        self.message, self.made = message, list[dict[str, Any]]()

    def read_deployment_by_name(self, _: str) -> Any:
        """A deployment."""
        return SimpleNamespace(id=uuid4())

    def create_flow_run_from_deployment(self, _: object, **about: Any) -> Any:
        """A run."""
        self.made.append(about)
        return SimpleNamespace(id=uuid4())

    def read_flow_run(self, _: object) -> Any:
        """It has ended."""
        return SimpleNamespace(state=SimpleNamespace(is_final=lambda: True, name="Thawed", message=self.message))


def thawed(monkeypatch: pytest.MonkeyPatch, made: Server, *looks: Row) -> tuple[tuple[str, str], list[bool]]:
    """What a thaw tells that sees these lines one after the other, and which of them it has answered."""
    left, answered = [*looks], list[bool]()

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield made

    def rows_of(*_: object) -> list[Row]:
        return [left.pop(0) if len(left) > 1 else left[0]]

    def decide(_: object, rows: list[Row], *__: object) -> None:
        answered.extend(row.asks for row in rows)

    new = {"get_client": client, "the_incident": lambda *_: ONE, "rows_of": rows_of, "decide": decide}
    for name, value in {**new, "cancel_waiting": lambda *_: ([], []), "_LOOK_SECONDS": 0.0}.items():
        monkeypatch.setattr(thaw, name, value)
    return thaw.thaw_all.fn("lab", None, "a false alarm", "r"), answered


def test_a_host_that_asks_later_is_answered_and_the_incident_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Thaws("")
    asks, done = Row("gpu1", 1, "r", doing="asks", asks=True), Row("gpu1", 1, "r", HostEnd.THAWED)
    told, answered = thawed(monkeypatch, made, Row("gpu1", 1, "r", doing="begun"), asks, done)
    assert told == ("gpu1", "")
    assert answered == [False, True, False]
    assert is_called_off(made, ONE.id)  # type: ignore[arg-type]


def test_a_thaw_is_ordered_for_the_incident_and_an_old_one_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Row("gpu1", 1, "r", HostEnd.CRASHED, incident="IR-20261126T140000Z")
    made = Thaws("IR-20261126T140000Z was thawed already; nothing was done.")
    assert thawed(monkeypatch, made, known)[0] == ("gpu1", "")
    assert made.made[0]["parameters"]["incident_id"] == "IR-20261126T140000Z"
    names, left = thawed(monkeypatch, made, replace(known, incident=""))[0]
    assert (names, left.startswith("gpu1: which incident it is frozen for is not known")) == ("", True)
    assert "incident_id" not in made.made[1]["parameters"]


def test_after_a_thaw_nothing_is_ordered_and_a_trigger_is_an_incident_of_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[object]()

    def give(*_: object, **__: object) -> dict[str, Lost]:
        given.append(1)
        return {"gpu1": Lost("no order")}

    incident = opened(trigger())
    monkeypatch.setattr(follow, "give", give)
    monkeypatch.setattr(follow, "rows_of", lambda *_: [Row("gpu1", doing="not ordered yet")])
    watch = FleetWatch(incident, str(uuid4()))
    watch.problems = {"gpu1": Lost("no order")}
    watch.look(server)  # type: ignore[arg-type]
    assert given == [1]
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet)
    call_off(server, incident.id)  # type: ignore[arg-type]
    watch.look(server)  # type: ignore[arg-type]
    assert given == [1]
    assert opened(trigger()).id != incident.id
