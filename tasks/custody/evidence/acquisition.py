"""Define evidence: what a collector took, what it did not take and why; and the seal."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tasks.custody.evidence.keys import unquote
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.evidence.secrets_in_files import Search
from tasks.custody.step_result import StepResult


class Outcome(StrEnum):
    """How an attempt to collect ended. Every attempt has an outcome; EMPTY is one too."""

    COLLECTED = "collected"
    EMPTY = "empty"
    WITHHELD = "withheld"
    MISSING = "missing"
    TRUNCATED = "truncated"
    DENIED = "denied"
    FAILED = "failed"
    TIMED_OUT = "timed out"

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for was taken."""
        return self in {Outcome.COLLECTED, Outcome.EMPTY}


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of an attempt at many files: one lost file makes the attempt incomplete."""
    return max(outcomes, key=tuple(Outcome).index, default=Outcome.EMPTY)


IN_PLACE = "in place"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of evidence. `source` is percent-encoded; `mtime_ns` is the source's, None if we generated the file.

    `where` the content is on the host: "" for the evidence folder, IN_PLACE if only at the source, or the folder on
    another disk that holds it under its stored name. `access` is the source's mode and owner, as in "-rw-r--r--
    1000:1000". `parts` are those in which a large file is uploaded; they are needed to check a store's composite
    digest.
    """

    stored: str
    source: str
    size: int
    sha256: str
    mtime_ns: int | None = None
    note: str = ""
    where: str = ""
    access: str = ""
    parts: Parts | None = None

    @property
    def path(self) -> str:
        """Its source as the workload names it; empty if we generated it."""
        return unquote(self.source).decode(errors="surrogateescape")

    @property
    def in_place(self) -> bool:
        """Whether there was no room for a copy: the hashed file is the workload's own and may change."""
        return self.where == IN_PLACE


@dataclass(frozen=True)
class Loss:
    """Something expected or present that is not in the evidence."""

    source: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, repr=False)
class Evidence(StepResult):
    """The record of one collector's attempt. `volume` is the number of the evidence folder.

    `needed` and `may_be_missing` are the workload's settings for this collector; `searches` list secrets found in the
    workload's files.
    """

    collector: str
    needed: bool
    may_be_missing: bool
    outcome: Outcome
    reason: str
    started_at: datetime
    ended_at: datetime
    volume: int
    files: tuple[StoredFile, ...] = ()
    losses: tuple[Loss, ...] = ()
    searches: tuple[Search, ...] = ()

    @property
    def size(self) -> int:
        """Bytes collected."""
        return sum(file.size for file in self.files)

    @property
    def lost(self) -> bool:
        """Whether something needed is not in the evidence."""
        declared = self.outcome is Outcome.WITHHELD or (self.may_be_missing and self.outcome is Outcome.MISSING)
        return self.needed and not (self.outcome.is_complete or declared)

    @property
    def is_unasked(self) -> bool:
        """True if there is nothing of it and nothing needs it: only the table of losses lists it."""
        return self.outcome is Outcome.MISSING and not self.needed

    @property
    def is_complete(self) -> bool:
        """Whether a repetition is pointless. False if something could not be taken, or something needed was missing."""
        return (self.outcome.is_complete or self.outcome in {Outcome.WITHHELD, Outcome.MISSING}) and not self.lost

    @property
    def summary(self) -> str:
        """Outcome, number of files, bytes and reason."""
        words = f"{self.outcome}: {len(self.files)} files, {self.size} bytes"
        return f"{words}; {self.reason}" if self.reason else words


@dataclass(frozen=True, repr=False)
class Seal(StepResult):
    """The seal of one evidence folder: digests of its manifest and SHA256SUMS, and how many files they cover.

    `signed_by` is the fingerprint of the manifest's signing key, empty if unsigned.
    """

    volume: int
    manifest_sha256: str
    sums_sha256: str
    files: int
    size: int
    signed_by: str = ""

    @property
    def summary(self) -> str:
        """Files, bytes, the manifest's digest and its signer."""
        signed = f"signed by {self.signed_by}" if self.signed_by else "unsigned"
        return f"sealed {self.files} files, {self.size} bytes, manifest sha256 {self.manifest_sha256[:12]}, {signed}"
