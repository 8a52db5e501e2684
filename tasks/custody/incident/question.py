"""Read from the custody log whether a person was asked to choose between stop and thaw, and the answer."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

Decision: TypeAlias = Literal["stop", "thaw"]


@dataclass(frozen=True)
class Question:
    """The deadline for an answer, None if nobody was asked; and the decision, empty while the question is open."""

    until: datetime | None = None
    decision: Decision | Literal[""] = ""


def question_of(entries: Iterable[Mapping[str, Any]]) -> Question:
    """Return the question of an incident. A thaw closes it, and so does a cancellation while it is open.

    The first time it was asked sets the deadline, also for later runs of the incident.
    """
    found = Question()
    for entry in entries:
        if entry.get("action") == "thawed" or (entry.get("action") == "cancelled" and not found.decision):
            found = Question()
        elif entry.get("action") == "asked" and found.until is None:
            with suppress(KeyError, TypeError, ValueError):
                found = replace(found, until=datetime.fromisoformat(entry["until"]).astimezone(UTC))
        elif entry.get("action") == "answered" and entry.get("decision") in {"stop", "thaw"}:
            found = replace(found, decision=cast("Decision", entry["decision"]))
    return found


def answers(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Notes for the verdict: what was answered, whichever run asked."""
    results = [str(entry.get("result")) for entry in entries if entry.get("action") == "answered"]
    return tuple(f"a person was asked whether to stop or to thaw: {each}" for each in results)


def seconds_left(question: Question, now: datetime, allowed: float) -> float:
    """Return the seconds left to answer, at most `allowed`, even if the clock was changed."""
    return min(allowed, (question.until - now).total_seconds()) if question.until else allowed
