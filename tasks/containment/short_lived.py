"""Detect processes that start and end between two looks (runbook §3)."""

import time
from typing import Final

from tasks.adapters.host import Host, lives
from tasks.custody.containment.process import Process

NO_PID: Final = -1
_SECONDS: Final = 0.3
_LONGEST_SECONDS: Final = 2.0
_LOOKS: Final = 300
_PAUSE_SECONDS: Final = 0.0002


def met_in_passing(host: Host, last: int) -> list[Process]:
    """Look for new processes for 0.3 s; return those that have ended again. `last` is a pid given out earlier.

    Returns at once if no pid was given out since then. Takes longer on a busy host, which allows few looks.
    """
    now, new = host.arrivals(last)
    if now == last:
        return []
    met = {process.identity: process for process in new}
    began, looks = time.monotonic(), 0
    while (passed := time.monotonic() - began) < _SECONDS or (looks < _LOOKS and passed < _LONGEST_SECONDS):
        now, new = host.arrivals(now)
        met |= {process.identity: process for process in new}
        looks += 1
        time.sleep(_PAUSE_SECONDS)
    return [process for identity, process in met.items() if not lives(host, identity)]
