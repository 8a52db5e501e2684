"""Read from the custody log whether a person was asked to decide between stop and thaw, and what was decided."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

Decision: TypeAlias = Literal["stop", "thaw"]


@dataclass(frozen=True)
class Question:
    """Until when a person may answer, None if nobody was asked yet; and what was decided, empty while it is open."""

    until: datetime | None = None
    decision: Decision | Literal[""] = ""


def question_of(entries: Iterable[Mapping[str, Any]]) -> Question:
    """The question of an incident, whichever run asked it. A thaw ends it, and so does a cancellation if it is open.

    The first asking sets the deadline, also for a run that carries the incident on.
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
    told = [str(entry.get("result")) for entry in entries if entry.get("action") == "answered"]
    return tuple(f"an alarm started it, and a person was asked: {each}" for each in told)


def seconds_left(question: Question, now: datetime, allowed: float) -> float:
    """Seconds that a person still has, never more than `allowed`, whatever the clock was set to meanwhile."""
    return min(allowed, (question.until - now).total_seconds()) if question.until else allowed
