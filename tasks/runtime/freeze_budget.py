"""Share the 20 s of the look among the steps that collect from frozen processes."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.custody.containment.receipt import Freeze

LOOK_SECONDS: Final = 20.0


@dataclass(frozen=True)
class FreezeBudget:
    """So many seconds, which end at `until` by the monotonic clock, however many draw on them."""

    seconds: float
    until: float

    @classmethod
    def of(cls, freeze: Freeze | None, seconds: float = LOOK_SECONDS) -> "FreezeBudget":
        """Count from when the freeze had frozen everybody; from now where it failed."""
        passed = (datetime.now(UTC) - freeze.at).total_seconds() if freeze else 0.0
        return cls(seconds, time.monotonic() + seconds - max(0.0, passed))

    def left(self) -> float:
        """What is left of it, nothing at worst."""
        return max(0.0, self.until - time.monotonic())
