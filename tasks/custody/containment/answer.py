"""Define the answers of people on processes that are not known: excused for this incident, or ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from tasks.custody.containment.identity import Identity

Decision: TypeAlias = Literal["bystander", "end"]


@dataclass(frozen=True)
class GivenAnswer:
    """An answer as a person gives it: on a pid, because nobody types when a process was started."""

    pid: int
    decision: Decision
    by: str


@dataclass(frozen=True)
class Answer:
    """An answer on exactly one process, by whom, and when; `line` is the one of the block that excuses it for good."""

    identity: Identity
    command: str
    decision: Decision
    by: str
    at: datetime
    line: str

    @property
    def summary(self) -> str:
        """What was answered, by whom, and for a bystander how the block says the same."""
        text = f"{self.identity.pid} ({self.command}) was answered by {self.by}: {self.decision}"
        keeps = self.decision == "bystander" and " = " in self.line  # without a file there is no block to keep it in
        return f"{text}; to keep it, in the workload block: {self.line}" if keeps else text


def answered_processes(answers: Iterable[tuple[Identity, str]], decision: Decision) -> frozenset[Identity]:
    """Return the processes on which this is the last answer, of decisions in the order in which they were given."""
    return frozenset(identity for identity, outcome in dict(answers).items() if outcome == decision)
