"""Tell from an incident's custody log which run opened it last, and until when that run waits for a person."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.custody.incident.question import question_of
from tasks.incident.layout import CUSTODY_LOG
from tasks.system.atomic_files import caught_lines


@dataclass(frozen=True)
class LastRun:
    """The run that opened an incident last: its id in Prefect, and the deadline and default of its open question."""

    id: str = ""
    until: datetime | None = None
    unanswered: str = ""

    @property
    def end_it(self) -> str:
        """The command that cancels the run."""
        return f"prefect flow-run cancel {self.id}"


def last_run(home: Path) -> LastRun:
    """Return the last run of the incident in this folder; an empty one if the log does not name it."""
    entries = list(caught_lines(home / CUSTODY_LOG))
    run = next((each["actor"]["run"] for each in reversed(entries) if each.get("action") == "run opened"), "")
    asked = question_of(entries)
    if asked.until is None or asked.decision or asked.until < datetime.now(UTC):
        return LastRun(str(run))
    act = next(str(each.get("unanswered", "")) for each in reversed(entries) if each.get("action") == "asked")
    return LastRun(str(run), asked.until, act)
