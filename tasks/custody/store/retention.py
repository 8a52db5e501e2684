"""Define for how long nobody may delete or overwrite what an incident has left in the store."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Literal, TypeAlias, get_args

Lock: TypeAlias = Literal["", "governance", "compliance"]

MOST_DAYS: Final = 36_500


@dataclass(frozen=True)
class Retention:
    """What the store block asks for: a lock for some days, a legal hold without an end, both, or neither."""

    lock: Lock = ""
    days: int = 0
    hold: bool = False

    def __bool__(self) -> bool:
        """True if anything is asked for."""
        return bool(self.lock) or self.hold

    @property
    def summary(self) -> str:
        """In a few words."""
        locks = [f"{self.lock} for {self.days} days"] if self.lock else []
        return " and ".join([*locks, *(["legal hold"] if self.hold else [])]) or "nothing"

    def stronger(self, other: "Retention") -> "Retention":
        """What satisfies both."""
        lock = max(self.lock, other.lock, key=get_args(Lock).index)
        return Retention(lock, max(self.days, other.days), self.hold or other.hold)

    def until(self, now: datetime) -> datetime:
        """When a lock that is set now ends: with the day, so that the objects of a run end together."""
        last = now + timedelta(days=self.days)
        return datetime.combine(last.date() + timedelta(days=1), time(), last.tzinfo)

    def lacking(self, lock: str, until: datetime | None, *, held: bool, since: datetime) -> str:
        """What an object of an incident that was opened at `since` lacks, in a sentence; empty if it has what is asked.

        A stronger lock than the one asked for is enough, a weaker one never.
        """
        try:
            last = since + timedelta(days=self.days)
        except OverflowError:
            return f"{self.days} days from {since:%Y-%m-%d} on end after the last date that there is"
        if self.lock and until is None:
            asked = f"{self.lock} for {self.days} days was asked"
            return f"it is not locked, or hides it for want of s3:GetObjectRetention; {asked}"
        if self.lock == "compliance" != lock:
            return f"it is locked in {lock or 'an unknown'} mode, compliance was asked"
        if self.lock and until and until < last:
            return f"it is locked until {until:%Y-%m-%d}, not until {last:%Y-%m-%d}"
        return "it is not under legal hold" if self.hold and not held else ""


NOTHING: Final = Retention()
