"""A turn to send: waited for in bounded time, given back, and done without where the server does not answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tasks.custody.errors import Refused
from tasks.runtime import ordered
from tasks.runtime.context import RunContext
from tasks.runtime.ordered import given_order, turn_to_send
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tests.unit.custody.fleet.test_order import INCIDENT

ORDER = INCIDENT.order(INCIDENT.hosts[0], 1, INCIDENT.opened_at)
LEASE = uuid4()


class Server:
    """What the server answers when it is asked for a turn; what is given back."""

    def __init__(self, *answers: int | Exception, hangs: Event | None = None) -> None:
        """Begin."""
        self.answers, self.hangs = list(answers), hangs
        self.asked, self.returned = 0, list[UUID]()

    def increment_concurrency_slots_with_lease(self, *_: Any) -> httpx.Response:
        """A turn, or what is wrong."""
        self.asked += 1
        if self.hangs:
            self.hangs.wait(30)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = httpx.Response(answer, json={"lease_id": str(LEASE)}, request=httpx.Request("POST", "http://s"))
        response.raise_for_status()
        return response

    def release_concurrency_slots_with_lease(self, lease: UUID) -> None:
        """A turn comes back."""
        self.returned.append(lease)


@pytest.fixture
def run(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunContext]:
    """A run that a fleet has ordered; a server is waited for half a second."""
    monkeypatch.setattr(ordered, "_TURN_SECONDS", 0.5)
    monkeypatch.setattr(ordered, "_LOOK_SECONDS", 0.05)
    with case_of(small.block()) as context:
        context.run = replace(context.run, order=ORDER)
        yield context


def use(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(ordered, "get_client", client)
    return server


def seconds_to_begin(run: RunContext) -> float:
    began = time.monotonic()
    with turn_to_send(run.run.order, run.cancelled):
        return time.monotonic() - began


@pytest.mark.slow
def test_a_turn_is_waited_for_and_given_back(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    server = use(monkeypatch, Server(423, 423, 200))
    seconds_to_begin(run)
    wait_until(lambda: server.returned == [LEASE], what="the turn to be given back")
    assert server.asked == 3


@pytest.mark.slow
def test_it_is_given_back_if_the_sending_fails(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    server = use(monkeypatch, Server(200))
    with pytest.raises(OSError, match="no network"), turn_to_send(run.run.order, run.cancelled):
        raise OSError("no network")
    wait_until(lambda: server.returned == [LEASE], what="the turn to be given back")


@pytest.mark.slow
def test_nobody_waits_longer_than_he_must(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = use(monkeypatch, Server(423))
    assert 0.4 < seconds_to_begin(run) < 5
    assert not busy.returned
    hangs = Event()
    late = use(monkeypatch, Server(200, hangs=hangs))
    assert seconds_to_begin(run) < 5
    assert not late.returned
    hangs.set()
    wait_until(lambda: late.returned == [LEASE], what="a turn that came too late to be given back")


@pytest.mark.parametrize("answer", [500, 404, httpx.ConnectError("refused"), RuntimeError("no loop")])
def test_without_the_server_it_goes_on_at_once(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, answer: int | Exception
) -> None:
    monkeypatch.setattr(ordered, "_TURN_SECONDS", 60.0)
    server = use(monkeypatch, Server(answer))
    assert seconds_to_begin(run) < 30
    assert server.asked == 1


@pytest.mark.parametrize("order", [None, replace(ORDER, limit="")])
def test_no_server_is_asked_without_a_limit(run: RunContext, monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    server = use(monkeypatch, Server(200))
    run.run = replace(run.run, order=order)
    seconds_to_begin(run)
    assert not server.asked


def test_an_order_that_is_none_is_refused() -> None:
    assert given_order(None) is None
    assert given_order(ORDER.parameters) == ORDER
    late = (ORDER.not_after + timedelta(days=1)).replace(tzinfo=None).isoformat()
    for said in ({"fleet": "x"}, {**ORDER.parameters, "not_after": late}):
        with pytest.raises(Refused, match="an order as a fleet's run gives it"):
            given_order(said)
