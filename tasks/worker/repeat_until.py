"""Repeat what a worker does beside its runs."""

from collections.abc import Awaitable, Callable

import anyio


async def repeat_until(act: Callable[[], Awaitable[object]], pause: Callable[[], float]) -> None:
    """Await `act` until its result is true: for ever, if it has none. In between wait `pause()` seconds."""
    while not await act():  # noqa: ASYNC110  no event tells of it
        await anyio.sleep(pause())
