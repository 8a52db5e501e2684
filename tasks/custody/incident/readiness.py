"""Judge from single findings whether an evacuation would work, and whether that is worse than before.

See docs/adr/0033.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from tasks.custody.errors import EvacuationError
from tasks.custody.incident.ending import DEGRADED, NOT_READY, READY, Ending

NIGHTS: Final = 30


class Weight(StrEnum):
    """What a finding means for an evacuation that began now."""

    SOUND = "sound"
    LOSS = "loss"
    """It works, and loses what is found; also what could not be looked at."""
    FATAL = "fatal"
    """It would not begin, not contain the workload, or not prove its evidence in the store."""


_ENDINGS: Final = {Weight.SOUND: READY, Weight.LOSS: DEGRADED, Weight.FATAL: NOT_READY}
SIGNS: Final = {Weight.SOUND: "●", Weight.LOSS: "◐", Weight.FATAL: "○"}


@dataclass(frozen=True)
class Finding:
    """What one check found, why it matters in an emergency, and the line that cures it. The last two may be empty."""

    weight: Weight
    found: str
    matters: str = ""
    cure: str = ""
    name: str = ""

    def of(self, part: str, check: str) -> "Finding":
        """Return a copy with the name of its check."""
        return replace(self, name=f"{part}/{check}")


def sound(found: str) -> Finding:
    """Return a finding that costs an evacuation nothing."""
    return Finding(Weight.SOUND, found)


def loss(found: str, matters: str, cure: str) -> Finding:
    """Return a finding with which an evacuation works, and loses something."""
    return Finding(Weight.LOSS, found, matters, cure)


def fatal(found: str, matters: str, cure: str) -> Finding:
    """Return a finding with which an evacuation fails."""
    return Finding(Weight.FATAL, found, matters, cure)


def finding_of_error(
    error: EvacuationError, matters: str, weigh: Callable[[str, str, str], Finding] = fatal
) -> Finding:
    """Return the finding of an error of ours, which says what cures it."""
    return weigh(f"expected {error.expected}; got {error.got}", matters, error.remedy)


@dataclass(frozen=True)
class Readiness:
    """The findings of all checks, in the order in which they were made."""

    findings: Sequence[Finding]

    @property
    def bad(self) -> tuple[Finding, ...]:
        """Return what is not sound, the fatal first."""
        return tuple(each for weight in (Weight.FATAL, Weight.LOSS) for each in self.findings if each.weight is weight)

    @property
    def ending(self) -> Ending:
        """Return the end of the run: that of the worst finding."""
        return _ENDINGS[self.bad[0].weight if self.bad else Weight.SOUND]

    @property
    def message(self) -> str:
        """Return all that is not sound in one line."""
        summary = "; ".join(f"{each.name}: {each.found}" for each in self.bad)
        end = f"{len(self.bad)} not sound: {summary}" if summary else "all sound"
        return f"{len(self.findings)} checks, {end}"

    @property
    def weights(self) -> dict[str, str]:
        """Return what is not sound by the name of its check, as a run keeps it for the next."""
        return {each.name: str(each.weight) for each in self.bad}

    def worse_than(self, before: Mapping[str, Any] | None) -> tuple[str, ...]:
        """Return the names of checks that are worse than in `before`, the `weights` of a run; all bad without one."""
        known, order = before or {}, [str(weight) for weight in Weight]
        heavy = {name: order.index(weight) for name, weight in known.items() if weight in order}
        return tuple(each.name for each in self.bad if order.index(each.weight) > heavy.get(each.name, 0))


def nights(ends: Iterable[tuple[date, str]], today: date) -> str:
    """Draw the last 30 days, oldest first, from the ends of runs, oldest first; `·` is a day without one."""
    signs = {_ENDINGS[weight].name: sign for weight, sign in SIGNS.items()}
    known = {day: signs[name] for day, name in ends if name in signs}
    return "".join(known.get(today - timedelta(days=back), "·") for back in reversed(range(NIGHTS)))
