"""Retention: how long nobody may delete or overwrite what an incident has left in the store."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Literal, TypeAlias

Lock: TypeAlias = Literal["", "governance", "compliance"]


@dataclass(frozen=True)
class Retention:
    """What the store block asks for: a lock for some days, a legal hold without an end, both, or neither."""

    lock: Lock = ""
    days: int = 0
    hold: bool = False

    def __bool__(self) -> bool:
        """True if anything is asked for."""
        return bool(self.lock) or self.hold

    def until(self, now: datetime) -> datetime:
        """When a lock that is set now ends: with the day, so that the objects of a run end together."""
        last = now + timedelta(days=self.days)
        return datetime.combine(last.date() + timedelta(days=1), time(), last.tzinfo)

    def lacking(self, lock: str, until: datetime | None, *, held: bool, since: datetime) -> str:
        """What an object of an incident that was opened at `since` lacks, in a sentence; empty if it has what is asked.

        A stronger lock than the one asked for is enough, a weaker one never.
        """
        if self.lock and until is None:
            asked = f"{self.lock} for {self.days} days was asked"
            return f"it is not locked, or hides it for want of s3:GetObjectRetention; {asked}"
        if self.lock == "compliance" != lock:
            return f"it is locked in {lock or 'an unknown'} mode, compliance was asked"
        if self.lock and until and until < (last := since + timedelta(days=self.days)):
            return f"it is locked until {until:%Y-%m-%d}, not until {last:%Y-%m-%d}"
        return "it is not under legal hold" if self.hold and not held else ""


NOTHING: Final = Retention()
