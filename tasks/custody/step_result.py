"""Define StepResult, the base of what steps return: a frozen fact with `summary` and `is_complete`.

See docs/adr/0030.
"""

from abc import ABC, abstractmethod


class StepResult(ABC):
    """The result of a step. Its `repr` is short, to keep long content out of logs."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """A few words for the run graph and the custody log."""

    @property
    def is_complete(self) -> bool:
        """False makes the step Failed, so that it is never cached, and retried if `is_transient`."""
        return True

    @property
    def is_transient(self) -> bool:
        """True if what makes it incomplete may pass, so that another try may complete it."""
        return False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that become notes of the verdict. A field of the result, so that a cached one still has them."""
        return ()

    def __repr__(self) -> str:
        """Return class and summary only."""
        return f"<{type(self).__name__}: {self.summary}>"
