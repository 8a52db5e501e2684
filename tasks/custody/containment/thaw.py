"""Decide which frozen processes and containers a thaw releases; define its result."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tasks.custody.containment.pause import Resume
from tasks.custody.step_result import StepResult

T = TypeVar("T")


def ran_before(seen: Iterable[tuple[T, bool]]) -> tuple[frozenset[T], frozenset[T]]:
    """Split what our files name into what ran before our freeze, and what was already stopped by somebody else.

    Each pair says whether it was already stopped when a freeze or the guard found it. If several found the same, one
    that saw it running is enough: the others saw our own stop.
    """
    pairs = list(seen)
    ran = frozenset(item for item, stood in pairs if not stood)
    return ran, frozenset(item for item, _ in pairs) - ran


@dataclass(frozen=True, repr=False)
class Thawed(StepResult):
    """The result of a thaw. `stood` was already stopped and stays so, `left` was not released, `gone` has ended."""

    at: datetime
    thawed: tuple[str, ...]
    stood: tuple[str, ...]
    gone: tuple[str, ...]
    left: tuple[str, ...]
    resumed: Resume
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing that we froze or paused stays so."""
        return not self.left and self.resumed.is_complete

    @property
    def summary(self) -> str:
        """What was released, and what was not."""
        words = [f"{len(self.thawed)} let go, the lock is given back"]
        words += [f"stopped before us, so left: {', '.join(self.stood)}"] * bool(self.stood)
        words += [f"ended while frozen: {', '.join(self.gone)}"] * bool(self.gone)
        return "; ".join([*words, *self.left, self.resumed.summary])
