"""Define what an audit says: findings, what it could not prove, and one word."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasks.custody.step_result import StepResult

_SHOWN: Final = 300


class Severity(StrEnum):
    """What a finding means for the word, the worst first."""

    BROKEN = "broken"
    OPEN = "open"
    NOTE = "note"


class AuditWord(StrEnum):
    """The three outcomes of a validation (as ETSI EN 319 102-1 has them: passed, failed, indeterminate)."""

    PROVEN = "PROVEN"
    BROKEN = "BROKEN"
    INDETERMINATE = "INDETERMINATE"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, or that an auditor must know. `object` is the key that it is about."""

    severity: Severity
    object: str
    what: str
    expected: str = ""
    got: str = ""

    @property
    def summary(self) -> str:
        """One line, safe for a terminal whatever the bucket holds."""
        differs = f": expected {self.expected}; got {self.got}" if self.expected else ""
        return shown(f"{self.severity}: {self.object}: {self.what}{differs}")


def shown(text: object, limit: int = _SHOWN) -> str:
    """Text of a bucket for a person: one line of bounded length, its control characters escaped."""
    safe = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text)[: limit + 1])
    return safe if len(safe) <= limit else f"{safe[:limit]}…"


def broken(key: str, what: str, expected: str = "", got: str = "") -> Finding:
    """The bucket contradicts itself: something was changed, removed or added, or was never true."""
    return Finding(Severity.BROKEN, key, what, expected, got)


def unclear(key: str, what: str, expected: str = "", got: str = "") -> Finding:
    """It could not be proven, and could hide something."""
    return Finding(Severity.OPEN, key, what, expected, got)


def note(key: str, what: str, expected: str = "", got: str = "") -> Finding:
    """Worth knowing, and no fault."""
    return Finding(Severity.NOTE, key, what, expected, got)


def judged(findings: Iterable[Finding]) -> AuditWord:
    """One contradiction breaks it; what is open keeps it from being proven; a note changes nothing."""
    worst = {finding.severity for finding in findings}
    if Severity.BROKEN in worst:
        return AuditWord.BROKEN
    return AuditWord.INDETERMINATE if Severity.OPEN in worst else AuditWord.PROVEN


@dataclass(frozen=True, repr=False)
class Audit(StepResult):
    """An incident as its bucket shows it.

    `verdict` is what its last closing says, `signed` who signed, `retained` until when nobody may delete it. `objects`
    and `size` count what was compared; `deep` tells whether every byte was read back.
    """

    incident: str
    place: str
    verdict: str
    signed: str
    retained: str
    deep: bool
    objects: int
    size: int
    findings: tuple[Finding, ...]
    unproven: tuple[str, ...]

    @property
    def word(self) -> AuditWord:
        """Computed, never set."""
        return judged(self.findings)

    @property
    def is_complete(self) -> bool:
        """Only a proven incident is a completed audit."""
        return self.word is AuditWord.PROVEN

    @property
    def summary(self) -> str:
        """One line: the word, what it is about, the worst of the findings."""
        read = "every byte read back" if self.deep else "by the store's own digests"
        words = f"{self.word}: {self.objects} objects, {self.size} bytes, {read}; {self.signed}"
        faults = [finding for finding in self.findings if finding.severity is not Severity.NOTE]
        return f"{words}; {len(faults)} findings, first: {faults[0].summary}" if faults else words
