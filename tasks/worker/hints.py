"""Hear of new runs by the Prefect server's event stream, and know whether it can be relied upon.

An event is a hint, which anybody may have forged: the server has to be asked. The stream counts as proven while it
delivers this worker's own probes.

See docs/adr/0031.
"""

import asyncio
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.logging import get_logger

from tasks.custody.fleet.frame import EVENT
from tasks.worker.repeat_until import repeat_until

logger = get_logger(__name__)

_RUN: Final = "prefect.flow-run."
_SCHEDULED: Final = [f"{_RUN}{name}" for name in ("Scheduled", "Late", "AwaitingRetry", "Resuming")]
_PROBE: Final = "evacuation.worker.probe"
_CONFIRMATIONS: Final = 2
"""The first echo may come out of the server's database, which it reads to a new subscriber."""
ECHO_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0


class Hints:
    """The event stream of some queues. `hinted` is called for each run that may be waiting in them."""

    def __init__(
        self,
        hinted: Callable[[UUID], None],
        proven: Callable[[], None],
        time: Callable[[], datetime],
        framed: Callable[[object], None] | None = None,
    ) -> None:
        """Call `proven` whenever the stream has become proven: an earlier event may have been lost.

        `framed` is called with the payload of each frame of a fleet; without it none is asked for.

        Probes are dated by `time`, the server's, as the events of runs are: Prefect's subscriber gets none that are
        more than a minute old by this host's clock.
        """
        self.proven = False
        self._hinted, self._on_proven, self._time, self._framed = hinted, proven, time, framed
        self._resource = f"evacuation.worker.{uuid4()}"
        self._probe, self._echoed = uuid4(), asyncio.Event()

    async def follow(self, client: PrefectClient, resources: Callable[[], Awaitable[Sequence[str]]]) -> None:
        """Subscribe to the events of these resources, for ever, again after each failure."""
        silent = False

        async def hear() -> None:
            nonlocal silent
            try:
                await self._subscribe(client, await resources())
            except Exception as error:  # noqa: BLE001  the worker goes on without it, and asks more often
                (logger.debug if silent else logger.warning)(
                    "The server's event stream delivers nothing; the server is asked each second instead: %r", error
                )
            silent = not self.proven
            self.proven = False

        await repeat_until(hear, lambda: RETRY_SECONDS * random.uniform(0.5, 1))  # noqa: S311  spreads many workers

    async def _subscribe(self, client: PrefectClient, resources: Sequence[str]) -> None:
        frames = [EVENT] if self._framed else []
        event_filter = EventFilter(
            event=EventNameFilter(name=[*_SCHEDULED, _PROBE, *frames]),
            any_resource=EventAnyResourceFilter(id=[*resources, self._resource]),
        )
        subscriber = get_events_subscriber(filter=event_filter, reconnection_attempts=0)
        async with subscriber as stream, anyio.create_task_group() as group:
            group.start_soon(self._listen, stream)
            group.start_soon(self._prove, client)

    async def _listen(self, stream: AsyncIterable[Event]) -> None:
        async for event in stream:
            if event.id == self._probe:
                self._echoed.set()
            elif event.event == EVENT and self._framed:
                self._framed(event.payload)
            elif event.event != _PROBE and (run := _run_of(event)):
                self._hinted(run)
        raise ConnectionError("the server has closed it")

    async def _prove(self, client: PrefectClient) -> None:
        """Send probes, for ever. Raises TimeoutError if one is not echoed."""
        confirmed = 0

        async def probe() -> None:
            nonlocal confirmed
            sent = Event(occurred=self._time(), event=_PROBE, resource={"prefect.resource.id": self._resource})
            self._probe, self._echoed = sent.id, asyncio.Event()
            # as a request: what is sent by a socket may wait for others in the server
            await client.request("POST", "/events", json=[sent.model_dump(mode="json")])
            with anyio.fail_after(ECHO_SECONDS):
                await self._echoed.wait()
            confirmed += 1
            if confirmed == _CONFIRMATIONS:
                self.proven = True
                logger.info("The server's event stream delivers: runs are heard of at once, and asked for rarely.")
                self._on_proven()

        await repeat_until(probe, lambda: PROBE_SECONDS if confirmed >= _CONFIRMATIONS else 0)


def _run_of(event: Event) -> UUID | None:
    with suppress(ValueError):
        return UUID(event.resource.id.removeprefix(_RUN))
    return None
