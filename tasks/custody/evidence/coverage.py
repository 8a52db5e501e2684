"""Build coverage.json: what was expected, what was taken, which questions stay open (runbook §4)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from tasks.custody.evidence.acquisition import Evidence, Outcome

_LOST: Final = tuple(outcome for outcome in Outcome if not outcome.is_complete)


def statement(incident: str, volume: int, evidence: Sequence[Evidence], answers: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of coverage.json; `answers` maps each collector to the question that it answers.

    `losses` has a list for each kind, so that an empty list says that nothing was lost in that way. `attempts` are the
    records from which the rest follows.
    """
    return {
        "incident": incident,
        "volume": volume,
        "statement": [_line(item, answers.get(item.collector, "")) for item in evidence],
        "losses": {str(kind): _losses(evidence, kind) for kind in _LOST},
        "attempts": [asdict(item) for item in evidence],
    }


def attempts(document: Any) -> Any:
    """Return the records in a parsed coverage.json; None if it is no object, or has none."""
    return document.get("attempts") if isinstance(document, dict) else None


def impact(item: Evidence, question: str) -> str:
    """Return which question stays open, in a sentence; empty if it is answered."""
    question = question or f"What would {item.collector} have shown?"
    if item.outcome.is_complete:
        return ""
    if item.outcome is Outcome.WITHHELD:
        return f"Left out, for the reason that is given: {question}"
    return f"{'Answered in part' if item.files else 'Unanswered'}: {question}"


def _line(item: Evidence, question: str) -> dict[str, Any]:
    return {
        "collector": item.collector,
        "answers": question,
        "expected": _expectation(item),
        "outcome": item.outcome,
        "reason": item.reason,
        "impact": impact(item, question),
        "files": len(item.files),
        "bytes": item.size,
    }


def _expectation(item: Evidence) -> str:
    if not item.needed:
        return "optional"
    return "needed, may be missing" if item.may_be_missing else "needed"


def _losses(evidence: Sequence[Evidence], kind: Outcome) -> list[dict[str, str]]:
    losses = ((item.collector, loss) for item in evidence for loss in item.losses if loss.outcome is kind)
    return [{"collector": name, "source": loss.source, "reason": loss.reason} for name, loss in losses]
