"""Check Object Lock: whether an incident's objects are retained as asked."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from tasks.custody.audit.finding import AuditFinding, unclear
from tasks.custody.audit.promise import Seen
from tasks.custody.store.retention import Retention


@dataclass(frozen=True)
class RequiredRetention:
    """The strongest retention that any closing asks for; `since` is when the incident was opened."""

    retention: Retention
    since: datetime


@dataclass
class Retained:
    """Counts what the store says about each object's retention; keeps only the first key for each fault."""

    required: RequiredRetention | None
    lacking: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    locks: Counter[str] = field(default_factory=Counter)
    earliest: datetime | None = None

    def add(self, seen: Seen) -> None:
        """Count one existing object. Not for latest/ and other objects without retention."""
        held = ["legal hold"] if seen.held else []
        self.locks[" and ".join([*([seen.lock] if seen.lock else []), *held]) or "no lock"] += 1
        if seen.retained_until and (self.earliest is None or seen.retained_until < self.earliest):
            self.earliest = seen.retained_until
        if self.required:
            ask = self.required.retention
            if reason := ask.lacking(seen.lock, seen.retained_until, held=seen.held, since=self.required.since):
                self.lacking[reason] += 1
                self.first.setdefault(reason, seen.key)

    @property
    def findings(self) -> Iterator[AuditFinding]:
        """One finding for each kind of fault, with the number of objects."""
        for reason, count in self.lacking.most_common():
            yield unclear(self.first[reason], f"{reason} ({count} objects)")

    @property
    def summary(self) -> str:
        """The number of objects by lock."""
        words = ", ".join(f"{count} under {lock}" for lock, count in self.locks.most_common())
        return f"{words}; the first lock ends {self.earliest:%Y-%m-%d %H:%M} UTC" if self.earliest else words

    @property
    def unproven(self) -> Iterator[str]:
        """What missing locks leave open."""
        if not self.required:
            yield "That nobody could delete it: the incident does not say that a lock or a hold was asked for."
