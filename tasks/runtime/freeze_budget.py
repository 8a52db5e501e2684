"""Share the 20 s of the look among the steps that collect from frozen processes."""

import time
from typing import Final

LOOK_SECONDS: Final = 20.0


class FreezeBudget:
    """Seconds that begin to run once, however many draw on them; begun anew they are whole again."""

    def __init__(self, seconds: float) -> None:
        """Nothing is used yet."""
        self.seconds = seconds
        self._until: float | None = None

    def begin(self) -> None:
        """Let the time run from now."""
        self._until = time.monotonic() + self.seconds

    def left(self) -> float:
        """What is left of it, nothing at worst; who asks first begins it where nobody else did."""
        if self._until is None:
            self.begin()
        return max(0.0, (self._until or 0.0) - time.monotonic())
