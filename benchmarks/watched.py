"""When did the processes of a session come to rest? Seen from outside, without any of the evacuation's own code."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_IDLE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02


class Watched:
    """The processes of one session, seen from outside: when were they first all at rest?"""

    def __init__(self, session: int, *, idle_is_rest: bool) -> None:
        """Nothing has been seen yet. An API that waits for requests is idle, and not at rest."""
        self.session, self._idle_is_rest = session, idle_is_rest
        self.rest: float | None = None
        self._used, self._since = -1, time.monotonic()

    def living(self) -> dict[int, tuple[str, int]]:
        """State and processor time of each process of the session that has not ended."""
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        found = {pid: state_of(pid) for pid in pids if self._has(pid)}
        return {pid: seen for pid, seen in found.items() if seen and seen[0] not in "ZX"}

    def _has(self, pid: int) -> bool:
        with suppress(ProcessLookupError):
            return os.getsid(pid) == self.session
        return False

    def look(self) -> None:
        """Note the moment when all are frozen or gone, or since when none has used the processor."""
        if self.rest is not None:
            return
        now, living = time.monotonic(), self.living()
        used = sum(ticks for _, ticks in living.values())
        if all(state == "T" for state, _ in living.values()):
            self.rest = now
        elif used != self._used:
            self._used, self._since = used, now
        elif self._idle_is_rest and now - self._since >= _IDLE_SECONDS:
            self.rest = self._since


def state_of(pid: int) -> tuple[str, int] | None:
    """State and processor time of a process; None if there is none."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
        return words[0], int(words[11]) + int(words[12])
    return None


def watch(watched: Sequence[Watched], until: float) -> None:
    """Look until all are at rest, or the time is over."""
    while any(each.rest is None for each in watched) and time.monotonic() < until:
        for each in watched:
            each.look()
        time.sleep(_POLL_SECONDS)
