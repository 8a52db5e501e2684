"""Hold everything that the record tells of an incident, from which both of its pages are made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.custody.containment.receipt import Freeze, Recovery, Stop, Watch
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.incident.ending import Ending, ending_of
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.verdict import Verdict
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.latest import Promotion
from tasks.custody.store.receipts import ObjectReceipt
from tasks.custody.store.retention import NOTHING, Retention


@dataclass(frozen=True)
class Quote:
    """What the record quotes from a file of the evidence. `content` is data, or text."""

    stored: str
    content: Any


@dataclass(frozen=True)
class Quotes:
    """What the workload says of itself: its summaries and scores, and the error in its log."""

    summaries: tuple[Quote, ...] = ()
    scores: tuple[Quote, ...] = ()
    tracebacks: tuple[Quote, ...] = ()


def nowhere(key: str) -> str:
    """No browser reaches what is stored."""
    del key
    return ""


@dataclass(frozen=True)
class Places:
    """Where everything lies. `store` is the store for people, `block` the name that an operator knows it by.

    `address` gives of a key, or of a folder that ends in a slash, where a browser finds it; empty if nowhere.
    """

    home: str
    store: str
    block: str
    address: Callable[[str], str] = nowhere


@dataclass(frozen=True)
class ReportData:
    """What is told. `entries` is the custody log; `recovery` is the reason where it failed.

    `questions` is what each collector is there to answer. `recovering` says that the run only recovers, `stored`
    whether the store has its record, as far as is known while it is told.
    """

    incident: Incident
    number: int
    dry_run: bool
    places: Places
    verdict: Verdict
    freeze: Freeze | None
    stop: Stop | None
    watch: Watch | None
    coverage: Sequence[Evidence]
    inspection: Inspection | None
    seals: Sequence[Seal]
    promoted: Promotion | None
    recovery: Recovery | str | None
    quotes: Quotes
    entries: Sequence[Mapping[str, Any]]
    retention: Retention = NOTHING
    questions: Mapping[str, str] = field(default_factory=dict)
    objects: Sequence[ObjectReceipt] = ()
    recovering: bool = False
    stored: bool = True

    @property
    def end(self) -> Ending:
        """How the run ends."""
        how = {"recovering": self.recovering, "dry_run": self.dry_run, "stored": self.stored}
        return ending_of(self.verdict.word, self.recovery, **how)
