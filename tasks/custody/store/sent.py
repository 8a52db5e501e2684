"""Define the result of an offload."""

from dataclasses import dataclass

from tasks.custody.step_result import StepResult


@dataclass(frozen=True, repr=False)
class Sent(StepResult):
    """What the store accepted; `verify` checks whether it is there.

    Of `size` bytes, `sent` crossed the network, and `copied` were copied inside the store from an earlier incident's
    objects.
    """

    objects: int
    size: int
    place: str
    sent: int = 0
    copied: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Objects, bytes and how they got there."""
        words = f"{self.objects} objects, {self.size} bytes to {self.place}"
        there = self.size - self.sent - self.copied
        ways = {"sent": self.sent, "copied inside the store": self.copied, "there already": there}
        how = ", ".join(f"{size} {way}" for way, size in ways.items() if size)
        return f"{words} ({how})" if there or self.copied else words
