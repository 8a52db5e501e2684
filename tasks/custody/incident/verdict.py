"""Compute the verdict, one word, from receipts (runbook §8). It is never assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Challenge, Containment, ObjectReceipt, lost_once, unproven
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.incident.commands import deployment_run

_SHOWN: Final = 5


class Word(StrEnum):
    """The verdicts, best first. A thawed incident has none of the other four: it was called off."""

    VERIFIED = "VERIFIED"
    PARTIAL = "PARTIAL"
    UNVERIFIED = "UNVERIFIED"
    NOT_CONTAINED = "NOTCONTAINED"
    THAWED = "THAWED"


@dataclass(frozen=True)
class Verdict:
    """The word, and in plain sentences what is safe, what is missing, what to do next; `first` goes before them all."""

    word: Word
    safe: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    next: str
    first: str = ""

    @property
    def message(self) -> str:
        """One line for the state message and the log."""
        parts = [f"{self.word}.", *([f"First: {self.first}."] if self.first else [])]
        if self.safe:
            parts.append(f"Safe: {_listed(self.safe)}.")
        if self.missing:
            parts.append(f"Missing: {_listed(self.missing)}.")
        return " ".join([*parts, f"Next: {self.next}"])

    def after_recovery(self, told: str) -> "Verdict":
        """The same verdict when the API is back: that is what is safe now, and only losses are left to be mended."""
        last = "write the postmortem." if self.word in _RECOVERABLE else self.next
        return replace(self, safe=(*self._safe_whatever_runs, f"{_RECOVERED} {told}"), next=last)

    def after_failed_recovery(self, incident: str, alive: Sequence[str], *, workload: str = "NAME") -> "Verdict":
        """The same verdict when the API did not come back, unless something of what was started lives on."""
        safe = self._safe_whatever_runs
        if not alive:
            return replace(self, safe=(_CONTAINED, *safe))
        word, then = Word.NOT_CONTAINED, _next(Word.NOT_CONTAINED, incident, workload)
        return replace(self, word=word, safe=safe, missing=(*alive, *self.missing), next=then)

    def of_what_was_not_kept(self) -> "Verdict":
        """Return the verdict where no folder took a file: containment alone is safe, and no run can be carried on."""
        safe = tuple(each for each in self.safe if each == _CONTAINED)
        return replace(self, safe=safe, next="free some room, or give fallback_dir; then run the evacuation again.")

    @property
    def _safe_whatever_runs(self) -> tuple[str, ...]:
        return tuple(each for each in self.safe if each != _CONTAINED and not each.startswith(_RECOVERED))


_CONTAINED: Final = "the workload is contained"
_RECOVERED: Final = "it was contained, and now"
_RECOVERABLE: Final = frozenset({Word.VERIFIED, Word.PARTIAL})


def why_not_recover(word: Word | None, despite: str) -> str:
    """Why a recovery is refused after this verdict; empty if it may be. UNVERIFIED alone can be overridden."""
    if word in _RECOVERABLE or (word is Word.UNVERIFIED and despite):
        return ""
    if word is Word.THAWED:
        return "it was thawed, and nothing of it was stopped"
    if word is Word.UNVERIFIED:
        return "its evidence is not proven to be in the store, and a recovery may overwrite what is left of it"
    return "it is not contained" if word else "none of its runs has closed a record"


def _listed(sentences: Sequence[str]) -> str:
    return "; ".join(sentence.rstrip(". ") for sentence in sentences)


def judge(  # noqa: PLR0913  everything that a verdict is made of
    incident: str,
    containment: Containment | None,
    evidence: Sequence[Evidence],
    receipts: Sequence[ObjectReceipt],
    trouble: Sequence[str] = (),
    *,
    workload: str = "NAME",
    ways_in: Sequence[str] = (),
    notes: Sequence[str] = (),
    first: str = "",
) -> Verdict:
    """Judge an incident of this workload.

    Laws: not contained outranks everything; no receipts, or one object unproven, is UNVERIFIED; a lost needed
    collector, or one lost file, is PARTIAL. `trouble` names steps that failed before they could leave a receipt,
    `ways_in` what may still start the workload although the cordon should have closed it, `notes` what else a person
    should know, `first` what before all else.
    """
    alive = (*not_contained(containment), *ways_in)
    bad, gone = unproven(receipts), lost_once(receipts)
    lost = [item for item in evidence if item.lost]
    notes = (
        *notes,
        *(_describe(item) for item in evidence if not item.outcome.is_complete and not item.lost),
        *_others(containment.left_alone if containment else ()),
        *(containment.notes if containment else ()),
    )
    missing = (
        *alive,
        *(f"{item.key}: {item.reason}" for item in bad[:_SHOWN]),
        *((f"{len(bad) - _SHOWN} more objects",) if len(bad) > _SHOWN else ()),
        *trouble,
        *(_describe(item) for item in lost),
        *(f"{item.key}: {item.reason}" for item in gone),
    )
    if alive:
        word = Word.NOT_CONTAINED
    elif bad or not receipts or trouble:
        word = Word.UNVERIFIED
    else:
        word = Word.PARTIAL if lost or gone or not evidence else Word.VERIFIED
    safe = _safe(containment, alive, evidence, receipts)
    return Verdict(word, safe, missing, notes, _next(word, incident, workload), first)


def _others(left_alone: Sequence[str]) -> tuple[str, ...]:
    """One note of all that only look like the workload; verdict.json names each."""
    if not left_alone:
        return ()
    more = f", and {len(left_alone) - 1} more in verdict.json" if left_alone[1:] else ""
    why = "by its command line or by where it works, but not by both"
    return (f"left alone, since it matches {why}: {left_alone[0]}{more}",)


def judge_thaw(
    incident: str, thawed: Thawed | None, notes: Sequence[str], trouble: Sequence[str], *, workload: str = "NAME"
) -> Verdict:
    """Judge an incident that was called off. One of which something stays frozen is not over: it is NOTCONTAINED."""
    if thawed is None or thawed.left:
        then = f"again, as root where it was denied: {deployment_run('thaw', workload, incident)}"
        missing = (*(thawed.left if thawed else ()), *trouble)
        return Verdict(Word.NOT_CONTAINED, (), missing, tuple(notes), then)
    missing = () if thawed.resumed.is_complete else (thawed.resumed.summary,)
    then = "resume by hand what is named here, or evacuation uncordon." if missing else "write the postmortem."
    return Verdict(Word.THAWED, (thawed.summary,), missing, tuple(notes), then)


def not_contained(containment: Containment | None) -> tuple[str, ...]:
    """What contradicts containment; empty if nothing does."""
    if containment is None:
        return ("whether the workload still runs was not established",)
    if not containment.cordoned:
        return (*containment.alive, containment.reason or "the training lock is not ours")
    return containment.alive


def ways_in(pause: Pause | None, challenge: Challenge | None) -> tuple[str, ...]:
    """What may still start the workload although the cordon should have closed it."""
    found = list(pause.open) if pause else ["whether Prefect's side is paused was not established"]
    if challenge and not challenge.is_complete:
        found.append(challenge.summary)
    return tuple(found)


def _safe(
    containment: Containment | None,
    alive: Sequence[str],
    evidence: Sequence[Evidence],
    receipts: Sequence[ObjectReceipt],
) -> tuple[str, ...]:
    proven = [receipt for receipt in receipts if receipt.proven]
    found = []
    if containment and containment.contained and not alive:
        found.append(_CONTAINED)
    if files := sum(len(item.files) for item in evidence) - len(lost_once(receipts)):
        found.append(f"{files} files collected on this host")
    if proven:
        read = sum(receipt.read for receipt in proven)
        told = f", {read} of them by reading every byte back" if read else ""
        if looked := sum(not receipt.exclusive for receipt in proven):
            told += f"; that {looked} of them overwrote nothing is not the store's word: they were looked for"
        found.append(f"{len(proven)} objects proven by the store's own digests{told}")
    return tuple(found)


def _describe(item: Evidence) -> str:
    return f"{item.collector} {item.outcome}: {item.reason or 'no reason given'}"


def _next(word: Word, incident: str, workload: str) -> str:
    """What to do, and at the end the command that does it."""
    again = deployment_run("evacuate", workload, incident)
    return {
        Word.VERIFIED: f"write the postmortem; to bring the API back: {deployment_run('recover', workload, incident)}",
        Word.PARTIAL: f"mend the cause of the loss, then: {again}",
        Word.UNVERIFIED: f"mend the store or the network, then (finished steps are not repeated): {again}",
        Word.NOT_CONTAINED: f"stop what is named here by hand, then: {again}",
    }[word]
