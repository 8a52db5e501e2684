"""Hold everything that the record says about an incident, the input of all its pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.custody.incident.ending import Ending, ending_of
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.incident.verdict import Verdict
from tasks.custody.store.retention import NOTHING, Retention
from tasks.record.content import Findings


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


def nowhere(key: str) -> str:
    """Return an empty URL, for a store that no browser reaches."""
    del key
    return ""


@dataclass(frozen=True)
class ReportPlaces:
    """Where everything lies. `store` is the store's place for people, `block` the name of its block.

    `address` returns the URL of a key, or of a folder that ends in a slash; empty if there is none.
    """

    home: str
    store: str
    block: str
    address: Callable[[str], str] = nowhere


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
