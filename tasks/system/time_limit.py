"""Limit all that is done before a run's first signal by one time, and keep what the run goes on without.

See docs/adr/0042.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

logger = logging.getLogger(__name__)

SECONDS: Final = 1.0
"""With the start of a process and the first look at all others, its first signal comes within two seconds."""


class TimeLimit:
    """A time from now that many waits share. `losses` say what was not waited for."""

    def __init__(self) -> None:
        """Begin."""
        self._end, self.losses = time.monotonic() + SECONDS, list[str]()

    def remaining(self, seconds: float = SECONDS) -> float:
        """Return how long a wait of at most so many seconds may take."""
        return max(0.0, min(seconds, self._end - time.monotonic()))

    def lose(self, loss: str) -> None:
        """Tell, once, what the run goes on without."""
        if loss not in self.losses:
            self.losses.append(loss)
            logger.warning("%s", loss)


_current: ContextVar[TimeLimit | None] = ContextVar("time limit", default=None)


def time_limit() -> TimeLimit:
    """Return the limit that stands; one for the caller alone if none does."""
    return _current.get() or TimeLimit()


@contextmanager
def before_the_freeze() -> Iterator[TimeLimit]:
    """Let everything in the block share one limit, that of an outer block if there is one."""
    token = _current.set(limit := time_limit())
    try:
        yield limit
    finally:
        _current.reset(token)
