"""Identify processes and containers unambiguously, and how they are held."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

_PIDS, _TICKS = 1 << 31, 1 << 63


@dataclass(frozen=True, order=True)
class Identity:
    """A process, unambiguous during a boot: pid and start time in clock ticks since boot. A pid alone is reused."""

    pid: int
    start: int

    @classmethod
    def of(cls, row: Any) -> Self | None:
        """Return the process that a row of a journal or marker names; None if it names none that may exist."""
        try:
            fields = row.get("identity", row)
            named = cls(int(fields["pid"]), int(fields["start"]))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return None
        return named if 0 < named.pid < _PIDS and 0 <= named.start < _TICKS else None


NOBODY: Final = Identity(-1, -1)
"""Stands for a process that was never started: the kernel never gives this pid."""


@dataclass(frozen=True, order=True)
class ContainerIdentity:
    """One run of a container: its full id and its start time. The id alone outlives a restart."""

    id: str
    started_at: str

    def started_before(self, moment: datetime) -> bool:
        """Return whether it started before `moment`; True also if its start cannot be read."""
        try:
            return datetime.fromisoformat(self.started_at) < moment
        except (TypeError, ValueError):
            return True


class Way(StrEnum):
    """How a process is held: by signals alone, or by a control group as well."""

    SIGNALS = "signals"
    IN_PLACE = "control group in place"
    INCIDENT = "control group of the incident"


@dataclass(frozen=True)
class Held:
    """A control group that an incident has frozen; with `identity`, the group that this process was moved from."""

    group: str
    identity: Identity | None = None
