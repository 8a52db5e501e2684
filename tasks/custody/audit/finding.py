"""Define the result of an audit: findings, what could not be proven, and one word."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from tasks.custody.step_result import StepResult

_SHOWN: Final = 300


class Severity(StrEnum):
    """The effect of a finding on the word, the worst first."""

    BROKEN = "broken"
    OPEN = "open"
    UNSENT = "unsent"
    NOTE = "note"


class AuditWord(StrEnum):
    """The three outcomes of a validation (in ETSI EN 319 102-1: passed, failed, indeterminate), and UNFINISHED.

    That is an incident of which nothing contradicts and nothing is open but what its host has never proven to be there.
    """

    PROVEN = "PROVEN"
    BROKEN = "BROKEN"
    INDETERMINATE = "INDETERMINATE"
    UNFINISHED = "UNFINISHED"


@dataclass(frozen=True)
class AuditFinding:
    """A fault, or a fact that an auditor must know. `object` is the key that it is about."""

    severity: Severity
    object: str
    what: str
    expected: str = ""
    got: str = ""

    @property
    def summary(self) -> str:
        """One line that is safe for a terminal."""
        differs = f": expected {self.expected}; got {self.got}" if self.expected else ""
        return printable(f"{self.severity}: {self.object}: {self.what}{differs}")


def printable(text: object, limit: int = _SHOWN) -> str:
    """Return text from a bucket as one printable line of bounded length."""
    safe = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text)[: limit + 1])
    return safe if len(safe) <= limit else f"{safe[:limit]}…"


broken: Final = partial(AuditFinding, Severity.BROKEN)
"""Makes a finding for a contradiction: something was changed, removed or added, or was never true."""
unclear: Final = partial(AuditFinding, Severity.OPEN)
"""Makes a finding for something that could not be proven, and could hide a fault."""
note: Final = partial(AuditFinding, Severity.NOTE)
"""Makes a finding that is worth knowing, and no fault."""


def word_of(findings: Iterable[AuditFinding]) -> AuditWord:
    """Return BROKEN if any finding is, INDETERMINATE if any is open, UNFINISHED if any is unsent, else PROVEN."""
    worst = {finding.severity for finding in findings}
    if Severity.BROKEN in worst:
        return AuditWord.BROKEN
    if Severity.OPEN in worst:
        return AuditWord.INDETERMINATE
    return AuditWord.UNFINISHED if Severity.UNSENT in worst else AuditWord.PROVEN


@dataclass(frozen=True, repr=False)
class Audit(StepResult):
    """The result of an audit of one incident.

    `whose` is its host and workload, `copy_of` the place that it was made for if it lies in another. `verdict` is the
    last closing's, `signed` names the signers, `timed` says who vouches for its time, `retained` the retention.
    `objects` and `size` count what was compared; `deep` says whether every byte was read back.
    """

    incident: str
    whose: str
    place: str
    copy_of: str
    verdict: str
    signed: str
    timed: str
    retained: str
    deep: bool
    objects: int
    size: int
    findings: tuple[AuditFinding, ...]
    unproven: tuple[str, ...]

    @property
    def word(self) -> AuditWord:
        """The word, computed from the findings."""
        return word_of(self.findings)

    @property
    def words(self) -> str:
        """The word, and of what it is a copy."""
        return f"{self.word}, a copy of {self.copy_of}" if self.copy_of else str(self.word)

    @property
    def is_complete(self) -> bool:
        """Whether the incident is proven."""
        return self.word is AuditWord.PROVEN

    @property
    def summary(self) -> str:
        """One line: the word, its subject, the worst finding."""
        read = "every byte read back" if self.deep else "by the store's own digests"
        words = f"{self.words}: {self.whose}: {self.objects} objects, {self.size} bytes, {read}; {self.signed}"
        faults = [finding for finding in self.findings if finding.severity is not Severity.NOTE]
        return f"{words}; {len(faults)} findings, first: {faults[0].summary}" if faults else words
