"""Define what an offload has sent."""

from dataclasses import dataclass

from tasks.custody.step_result import StepResult


@dataclass(frozen=True, repr=False)
class Sent(StepResult):
    """What was offered to the store and taken; whether it is really there, verify says.

    Of its `size`, `sent` bytes crossed the network, `copied` were copied inside the store from where an earlier
    incident had left them.
    """

    objects: int
    size: int
    place: str
    sent: int = 0
    copied: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """In a few words."""
        words = f"{self.objects} objects, {self.size} bytes to {self.place}"
        there = self.size - self.sent - self.copied
        ways = {"sent": self.sent, "copied inside the store": self.copied, "there already": there}
        how = ", ".join(f"{size} {way}" for way, size in ways.items() if size)
        return f"{words} ({how})" if there or self.copied else words
