"""Time on paper: it passes while somebody sleeps, and a little at each look at it."""


class PaperClock:
    """Takes the place of the module `time` in one that waits."""

    def __init__(self, step: float = 0.001) -> None:
        """Begin at some time; each look at it takes so many seconds."""
        self.now, self.step = 1000.0, step

    def monotonic(self) -> float:
        """Look at it."""
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let it pass at once."""
        self.now += seconds
