"""The event stream is relied upon while it delivers the worker's own probes, and for no longer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import UUID, uuid4

import pytest
from prefect.events import Event

from tasks.custody.fleet.frame import EVENT, RESOURCE
from tasks.worker import hints
from tasks.worker.hints import Hints

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

RUN = uuid4()
THERE = datetime(2026, 11, 27, 3, tzinfo=UTC)
HINT = Event(event="prefect.flow-run.Scheduled", resource={"prefect.resource.id": f"prefect.flow-run.{RUN}"})


class Stream:
    """A server as far as it is looked at: it echoes so many probes of each connection, then none, or closes."""

    def __init__(self, echoes: int, *, closes: bool = False) -> None:
        """Have no connection yet."""
        self.echoes, self.closes, self.connections = echoes, closes, 0
        self.filter: Any = None

    def connect(self, filter: Any, reconnection_attempts: int) -> Self:  # noqa: A002  Prefect's name
        """Stand for the subscriber."""
        assert reconnection_attempts == 0
        self.filter, self.left = filter, self.echoes
        return self

    async def __aenter__(self) -> Self:
        """Connect."""
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.connections += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    def __aiter__(self) -> Self:
        """Deliver events."""
        return self

    async def __anext__(self) -> Event:
        """Deliver one, or end."""
        if (event := await self.events.get()) is None:
            raise StopAsyncIteration
        return event

    async def request(self, method: str, path: str, json: list[Any]) -> None:
        """Take a probe."""
        assert (method, path) == ("POST", "/events")
        assert Event.model_validate(json[0]).occurred == THERE, "by the server's clock, as the events of runs"
        if self.left:
            self.left -= 1
            self.events.put_nowait(Event.model_validate(json[0]))
        elif self.closes:
            self.events.put_nowait(None)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    for name in ("ECHO_SECONDS", "PROBE_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(hints, name, 0.01)

    def play(server: Stream, until: Callable[[Hints], bool], framed: Any = None) -> list[Any]:
        monkeypatch.setattr(hints, "get_events_subscriber", server.connect)
        told = list[Any]()

        async def scene() -> None:
            heard = Hints(told.append, lambda: told.append("proven"), lambda: THERE, framed)

            async def resources() -> list[str]:
                return ["prefect.work-queue.q"]

            following = asyncio.create_task(heard.follow(cast("PrefectClient", server), resources))
            async with asyncio.timeout(20):
                while not until(heard):  # noqa: ASYNC110  a condition of the scene's own
                    await asyncio.sleep(0)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

        asyncio.run(scene())
        return told

    return play


def test_it_is_proven_by_the_second_echo_because_the_first_may_be_an_old_one(played: Any) -> None:
    once, twice = Stream(1), Stream(10**9)
    assert played(once, lambda heard: once.connections == 3 or heard.proven) == []
    assert played(twice, lambda heard: heard.proven) == ["proven"]
    assert twice.filter.any_resource.id[0] == "prefect.work-queue.q"
    assert "prefect.flow-run.Resuming" in twice.filter.event.name


@pytest.mark.parametrize("closes", [True, False])
def test_a_probe_without_an_echo_and_a_closed_stream_are_noticed_and_it_is_tried_again(
    played: Any,
    closes: bool,  # noqa: FBT001
) -> None:
    server = Stream(3, closes=closes)
    seen = set[tuple[int, bool]]()

    def until(heard: Hints) -> bool:
        seen.add((server.connections, heard.proven))
        return server.connections == 3

    assert played(server, until)[:2] == ["proven", "proven"]
    assert {(1, True), (1, False), (2, True)} <= seen


def test_a_hint_is_told_and_a_foreign_probe_or_a_damaged_name_is_not(played: Any) -> None:
    server = Stream(10**9)
    odd = Event(event="prefect.flow-run.Late", resource={"prefect.resource.id": "prefect.flow-run.x"})
    probe = Event(event="evacuation.worker.probe", resource={"prefect.resource.id": f"prefect.flow-run.{UUID(int=1)}"})
    sent = False

    def until(heard: Hints) -> bool:
        nonlocal sent
        if heard.proven and not sent:
            sent = True
            for event in (odd, probe, HINT):
                server.events.put_nowait(event)
        return sent and server.events.empty()

    assert played(server, until) == ["proven", RUN]


@pytest.mark.parametrize("hears", [False, True])
def test_frames_are_asked_for_only_by_a_worker_that_knows_their_signers(played: Any, *, hears: bool) -> None:
    server, told, sent = Stream(10**9), list[object](), list[Event]()

    def until(heard: Hints) -> bool:
        if heard.proven and not sent:
            sent.append(Event(event=EVENT, resource={"prefect.resource.id": RESOURCE}, payload={"frame": "x"}))
            server.events.put_nowait(sent[0])
        return bool(sent) and server.events.empty()

    assert played(server, until, told.append if hears else None) == ["proven"]
    assert (EVENT in server.filter.event.name) == hears
    assert told == ([{"frame": "x"}] if hears else [])
