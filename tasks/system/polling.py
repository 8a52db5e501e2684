"""Wait for a condition by asking again and again."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

EVERY_SECONDS: Final = 0.05


def poll_until(condition: Callable[[], T], seconds: float, every: float = EVERY_SECONDS) -> T:
    """Call `condition` until its result is true, at least once and for `seconds` at most; return its last result.

    `every` is the pause between two calls, in seconds. What `condition` raises ends the wait.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return result
