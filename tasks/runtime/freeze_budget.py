"""Share 20 s among the steps that collect from frozen processes."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.custody.containment.receipt import Freeze

LOOK_SECONDS: Final = 20.0


@dataclass(frozen=True)
class FreezeBudget:
    """A budget of `seconds`, which ends at `until` on the monotonic clock, shared by all its users."""

    seconds: float
    until: float

    @classmethod
    def of(cls, freeze: Freeze | None, seconds: float = LOOK_SECONDS) -> "FreezeBudget":
        """Start the budget when the freeze was complete; now if the freeze failed."""
        passed = (datetime.now(UTC) - freeze.at).total_seconds() if freeze else 0.0
        return cls(seconds, time.monotonic() + seconds - max(0.0, passed))

    def remaining(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(0.0, self.until - time.monotonic())
