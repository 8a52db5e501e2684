"""Tell from an incident's custody log whether a run waits for a person, and until when."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.custody.incident.question import question_of
from tasks.incident.layout import CUSTODY_LOG
from tasks.system.files.atomic_files import caught_lines


@dataclass(frozen=True)
class OpenQuestion:
    """The run that asks, by its id in Prefect; its deadline, and what is done without an answer."""

    run: str
    until: datetime
    unanswered: str

    @property
    def cancel(self) -> str:
        """The command that cancels the run."""
        return f"prefect flow-run cancel {self.run}"


def open_question(home: Path) -> OpenQuestion | None:
    """Return the question of the incident in this folder that is open now; None if there is none."""
    entries = list(caught_lines(home / CUSTODY_LOG))
    question = question_of(entries)
    if question.until is None or question.decision or question.until < datetime.now(UTC):
        return None
    entry = next(each for each in reversed(entries) if each.get("action") == "asked")
    return OpenQuestion(str(entry["actor"]["run"]), question.until, str(entry.get("unanswered", "")))
