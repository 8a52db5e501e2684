"""Hold what a record and its pages are made of: what the steps of a run returned, the verdict on it, and quotes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.custody.containment.cordon import Challenge, Cordon
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Containment, Freeze, Recovery, Stop, Watch
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.incident.ending import Ending, ending_of
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.incident.verdict import Verdict
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.latest import Promotion
from tasks.custody.store.receipts import ObjectReceipt, Receipts
from tasks.custody.store.retention import NOTHING, Retention


@dataclass(frozen=True)
class Findings:
    """Results of the run's steps; None for a step without a result, the reason as text for a failed recovery."""

    freeze: Freeze | None = None
    stop: Stop | None = None
    containment: Containment | None = None
    pause: Pause | None = None
    challenge: Challenge | None = None
    watch: Watch | None = None
    evidence: tuple[Evidence, ...] = ()
    seals: tuple[Seal, ...] = ()
    proven: Receipts | None = None
    trouble: tuple[str, ...] = ()
    promoted: Promotion | None = None
    recovery: Recovery | str | None = None
    inspection: Inspection | None = None
    warnings: tuple[str, ...] = ()
    cordon: Cordon | None = None

    @property
    def objects(self) -> tuple[ObjectReceipt, ...]:
        """Receipts of the objects that the store was asked for."""
        return self.proven.objects if self.proven else ()

    @property
    def is_stored(self) -> bool:
        """Whether the store was asked for objects, and proves all."""
        return bool(self.proven and self.objects and self.proven.is_complete)

    @property
    def recovery_receipt(self) -> Recovery | None:
        """The recovery, unless it failed or there was none."""
        return self.recovery if isinstance(self.recovery, Recovery) else None


@dataclass(frozen=True, repr=False)
class RecordContent:
    """Content of a record: the verdict, the facts that it rests on as they go on record, and the findings.

    `recovering` is true if the run, or the one whose facts it carries on, only recovers. `written` is what people have
    written, in the run that puts it on record.
    """

    verdict: Verdict
    facts: Mapping[str, Any]
    findings: Findings
    recovering: bool = False
    written: PostmortemFields | None = None


@dataclass(frozen=True)
class Quote:
    """A quote from an evidence file. `content` is JSON data, or text."""

    stored: str
    content: Any


@dataclass(frozen=True)
class Quotes:
    """Quotes from the workload's own files: summaries, scores, and errors in its logs."""

    summaries: tuple[Quote, ...] = ()
    scores: tuple[Quote, ...] = ()
    tracebacks: tuple[Quote, ...] = ()


@dataclass(frozen=True)
class ReportPlaces:
    """Where everything lies. `store` is the store's place for people, `block` the name of its block.

    `address` returns the URL of a key, or of a folder that ends in a slash; empty if there is none.
    """

    home: str
    store: str
    block: str
    address: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True)
class ReportData:
    """The content of a report. `entries` is the custody log.

    `timestamp_url` is the time-stamp authority that is asked once the record is stored; empty without one.
    `questions` says by collector what it is there to answer. `recovering` is true for a run that only recovers.
    `stored` says whether the store has the record, as far as known while the report is written. `written` is what
    people have written; `finished` is true for the run that puts it on record, whose pages lie beside the records.
    `took` is what `took` of the timeline says.
    """

    incident: Incident
    number: int
    dry_run: bool
    places: ReportPlaces
    verdict: Verdict
    findings: Findings
    quotes: Quotes
    entries: Sequence[Mapping[str, Any]]
    retention: Retention = NOTHING
    timestamp_url: str = ""
    questions: Mapping[str, str] = field(default_factory=dict)
    recovering: bool = False
    stored: bool = True
    written: PostmortemFields = field(default_factory=PostmortemFields)
    finished: bool = False
    took: str = ""

    @property
    def end(self) -> Ending:
        """How the run ends."""
        stored = self.stored and not self.verdict.partly_thawed
        how = {"recovering": self.recovering, "dry_run": self.dry_run, "stored": stored}
        return ending_of(self.verdict.word, self.findings.recovery, **how)
