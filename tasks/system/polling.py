"""Wait for a condition by asking again and again."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from tasks.system.cancellation import Cancellation

T = TypeVar("T")

EVERY_SECONDS: Final = 0.05


def poll_until(
    condition: Callable[[], T], seconds: float, every: float = EVERY_SECONDS, cancelled: "Cancellation | None" = None
) -> T:
    """Call `condition` until its result is true, at least once and for `seconds` at most; return its last result.

    `every` is the pause between two calls, in seconds. The wait ends early, with a result that is not true, when
    `cancelled` says that the run was told to end. What `condition` raises ends the wait.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline and not cancelled:
        time.sleep(every)
    return result
