"""Define StepResult, the base of what steps return: a frozen fact with `summary` and `is_complete`."""

from abc import ABC, abstractmethod


class StepResult(ABC):
    """A result of a step. Its long content stays out of logs: `repr` tells it in a few words."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """A few words for the run graph and the custody log."""

    @property
    def is_complete(self) -> bool:
        """False makes the step Failed: retried, and never cached."""
        return True

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that become notes of the verdict. A field of the result, so that a cached one still has them."""
        return ()

    def __repr__(self) -> str:
        """Short, whatever the size of the content."""
        return f"<{type(self).__name__}: {self.summary}>"
