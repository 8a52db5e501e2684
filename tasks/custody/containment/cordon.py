"""Define the results of the cordon and of its trial (runbook §1)."""

from dataclasses import dataclass
from datetime import datetime

from tasks.custody.containment.identity import NOBODY, Identity
from tasks.custody.step_result import StepResult


@dataclass(frozen=True, repr=False)
class Challenge(StepResult):
    """A test launch under the cordon. `caught` is empty if nothing stopped it; `skipped` says why there was no test."""

    at: datetime
    caught: str = ""
    skipped: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no training could be started."""
        return bool(self.caught or self.skipped)

    @property
    def summary(self) -> str:
        """The outcome of the test launch."""
        if self.skipped:
            return f"no launch was tried: {self.skipped}"
        return f"a launch was caught: {self.caught}" if self.caught else "a training could be started under the cordon"


@dataclass(frozen=True, repr=False)
class Cordon(StepResult):
    """The holder of the training lock. `held` is False if another process holds it; `reason` says which."""

    lock: str
    held: bool
    guard: Identity | None
    since: str
    incident: str
    reason: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the guard holds the lock."""
        return self.held

    @property
    def summary(self) -> str:
        """The lock and its holder."""
        if self.guard == NOBODY:
            return f"{self.lock} would be held by a guard"
        if self.held:
            return f"{self.lock} is held by guard {self.guard.pid if self.guard else '?'} since {self.since}"
        return f"{self.lock} is not ours: {self.reason}"
