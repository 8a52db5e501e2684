"""Decide which frozen processes and containers a thaw lets go; define its receipt."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tasks.custody.containment.pause import Resume
from tasks.custody.step_result import StepResult

T = TypeVar("T")


def ran_before(seen: Iterable[tuple[T, bool]]) -> tuple[frozenset[T], frozenset[T]]:
    """Split what our files name into what ran before it was frozen, and what somebody else had stopped before us.

    Each pair says whether it stood already when one of our freezes or the guard met it. Several may have met the same:
    one that saw it run is enough, because what the others saw was our own stop.
    """
    pairs = list(seen)
    ran = frozenset(who for who, stood in pairs if not stood)
    return ran, frozenset(who for who, _ in pairs) - ran


@dataclass(frozen=True, repr=False)
class Thawed(StepResult):
    """What was let go. `stood` was stopped before us and stays so, `left` could not be let go, `gone` has ended."""

    at: datetime
    thawed: tuple[str, ...]
    stood: tuple[str, ...]
    gone: tuple[str, ...]
    left: tuple[str, ...]
    resumed: Resume
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if nothing that we have frozen or paused stays so."""
        return not self.left and self.resumed.is_complete

    @property
    def summary(self) -> str:
        """In a few words."""
        words = [f"{len(self.thawed)} let go, the lock is free"]
        words += [f"stopped before us, so left: {', '.join(self.stood)}"] * bool(self.stood)
        words += [f"ended while frozen: {', '.join(self.gone)}"] * bool(self.gone)
        return "; ".join([*words, *self.left, self.resumed.summary])
