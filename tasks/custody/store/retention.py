"""Define how long the objects of an incident cannot be deleted or overwritten."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Literal, TypeAlias, get_args

Lock: TypeAlias = Literal["", "governance", "compliance"]

MOST_DAYS: Final = 36_500


@dataclass(frozen=True)
class Retention:
    """The retention that the store block asks for: a lock for some days, an unlimited legal hold, both, or neither."""

    lock: Lock = ""
    days: int = 0
    hold: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is asked for."""
        return bool(self.lock) or self.hold

    @property
    def summary(self) -> str:
        """Lock and hold in words."""
        locks = [f"{self.lock} for {self.days} days"] if self.lock else []
        return " and ".join([*locks, *(["legal hold"] if self.hold else [])]) or "nothing"

    def stronger(self, other: "Retention") -> "Retention":
        """Return the retention that satisfies both."""
        lock = max(self.lock, other.lock, key=get_args(Lock).index)
        return Retention(lock, max(self.days, other.days), self.hold or other.hold)

    def until(self, now: datetime) -> datetime:
        """Return when a lock set now ends: at the end of the day, so that the objects of a run end together."""
        last = now + timedelta(days=self.days)
        return datetime.combine(last.date() + timedelta(days=1), time(), last.tzinfo)

    def lacking(self, lock: str, until: datetime | None, *, held: bool, since: datetime) -> str:
        """Return what an object of an incident opened at `since` lacks, in a sentence; empty if nothing.

        A stronger lock than asked for suffices, a weaker one does not.
        """
        try:
            last = since + timedelta(days=self.days)
        except OverflowError:
            return f"{self.days} days from {since:%Y-%m-%d} on end after the last possible date (9999-12-31)"
        if self.lock and until is None:
            demand = f"{self.lock} for {self.days} days was asked"
            return f"it is not locked, or the lock is hidden without s3:GetObjectRetention; {demand}"
        if self.lock == "compliance" != lock:
            return f"it is locked in {lock or 'an unknown'} mode, compliance was asked"
        if self.lock and until and until < last:
            return f"it is locked until {until:%Y-%m-%d}, not until {last:%Y-%m-%d}"
        return "it is not under legal hold" if self.hold and not held else ""


NOTHING: Final = Retention()
