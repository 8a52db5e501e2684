"""Define an attempt to evacuate a host of a fleet: a run, with its state on the server."""

import re
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Attempt:
    """A run that evacuates a host, with its state on the server."""

    number: int
    run: str
    kind: str
    """The type of its state, as in COMPLETED."""
    state: str
    message: str
    not_after: datetime
    ordered: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None
    frozen: str = ""
    contained: str = ""

    @property
    def final(self) -> bool:
        """True once its state does not change any more."""
        return self.kind in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    @property
    def waits(self) -> bool:
        """True until a worker has taken it."""
        return self.kind == "SCHEDULED"

    @property
    def is_joined(self) -> bool:
        """True if it has left the work to another run, which it found at work on the host."""
        return self.kind == "COMPLETED" and self.state == "Joined"

    @property
    def incident(self) -> str:
        """The incident that its last message begins with; empty if it names none."""
        found = re.match(r"IR-\d{8}T\d{6}Z(?:-[a-z0-9][a-z0-9.-]{0,62})?(?=:)", self.message, re.ASCII)
        return found[0] if found else ""
