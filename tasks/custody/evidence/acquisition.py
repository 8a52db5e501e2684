"""Define evidence: what one collector got, what it did not get and why; and the seal."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tasks.custody.evidence.parts import Parts
from tasks.custody.evidence.secrets import Search
from tasks.custody.step_result import StepResult


class Outcome(StrEnum):
    """How an attempt to collect ended. Every attempt has one; an empty result is a result."""

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
        """True if everything that was asked for has been taken."""
        return self in {Outcome.COLLECTED, Outcome.EMPTY}


_WORST_LAST = tuple(Outcome)
_SETTLED = frozenset({Outcome.COLLECTED, Outcome.EMPTY, Outcome.WITHHELD, Outcome.MISSING})


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Sum up an attempt of many files: one lost file makes the whole attempt incomplete."""
    return max(outcomes, key=_WORST_LAST.index, default=Outcome.EMPTY)


IN_PLACE = "in place"


@dataclass(frozen=True)
class StoredFile:
    """One file of evidence. `source` is percent-encoded bytes; `mtime_ns` is the source's, None if we generated it.

    `where` its bytes lie on the host: "" in the evidence folder, IN_PLACE at the source and nowhere else, or the folder
    on another disk that holds it under its stored name. `access` is the source's mode and owner, as in
    "-rw-r--r-- 1000:1000". `parts` are those in which a large file is sent: with them a store's digest of what came in
    parts is proof.
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
    def in_place(self) -> bool:
        """True if there was no room for a copy: what was hashed is the workload's own file, which may change."""
        return self.where == IN_PLACE


@dataclass(frozen=True)
class Loss:
    """One thing that was there, or was expected, and is not in the evidence."""

    source: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, repr=False)
class Evidence(StepResult):
    """The record of one collector's attempt. `volume` tells which evidence folder it wrote to.

    `needed` and `may_be_missing` are what the workload declared of this collector; `searches` tell of secrets in the
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
        """True if something needed is not in the evidence."""
        declared = self.outcome is Outcome.WITHHELD or (self.may_be_missing and self.outcome is Outcome.MISSING)
        return self.needed and not (self.outcome.is_complete or declared)

    @property
    def is_complete(self) -> bool:
        """False if the attempt is worth repeating: something could not be taken, or something needed was not there."""
        return self.outcome in _SETTLED and not self.lost

    @property
    def summary(self) -> str:
        """In a few words."""
        words = f"{self.outcome}: {len(self.files)} files, {self.size} bytes"
        return f"{words}; {self.reason}" if self.reason else words


@dataclass(frozen=True, repr=False)
class Seal(StepResult):
    """The closing of one evidence folder: digests of its manifest and its sums, and what they cover.

    `signed_by` is the fingerprint of the key that signed the manifest, empty if none did.
    """

    volume: int
    manifest_sha256: str
    sums_sha256: str
    files: int
    size: int
    signed_by: str = ""

    @property
    def summary(self) -> str:
        """In a few words."""
        signed = f"signed by {self.signed_by}" if self.signed_by else "unsigned"
        return f"sealed {self.files} files, {self.size} bytes, manifest sha256 {self.manifest_sha256[:12]}, {signed}"
