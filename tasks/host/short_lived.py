"""Detect processes that start and end between two looks (runbook §3)."""

import time
from collections.abc import Container, Iterable, Mapping
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.host.host import Host, lives
from tasks.host.process.known_programs import quotes
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.membership import runs_from_root
from tasks.host.process.process import Process
from tasks.system.polling import poll_until

_ENOUGH: Final = 3
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
    newcomers = {process.identity: process for process in new}
    began, looks = time.monotonic(), 0

    def look() -> bool:
        nonlocal now, newcomers, looks
        now, new = host.arrivals(now)
        newcomers |= {process.identity: process for process in new}
        looks += 1
        return looks >= _LOOKS and time.monotonic() - began >= _SECONDS

    poll_until(look, _LONGEST_SECONDS, _PAUSE_SECONDS)
    return [process for identity, process in newcomers.items() if not lives(host, identity)]


def come_and_gone(
    passed: Iterable[Process],
    snapshot: Mapping[int, Process],
    description: WorkloadDescription,
    excluded_pids: Container[int],
) -> dict[Identity, str]:
    """Return short-lived processes that contradict "nothing of the workload runs", with reasons; none if under three.

    This detects a chain of forks in which each generation ends before it can be stopped. Unmatched processes that a
    living shell runs in the root are a person's and do not count.
    """
    facts = ((process.identity, _fact(process, snapshot, description, excluded_pids)) for process in passed)
    found = {identity: fact for identity, fact in facts if fact}
    return found if len(found) >= _ENOUGH else {}


def _fact(
    process: Process, snapshot: Mapping[int, Process], description: WorkloadDescription, excluded_pids: Container[int]
) -> str:
    if process.pid in excluded_pids or process.container or quotes(process):
        return ""
    if description.recognises(process):
        return "it matches"
    parent = snapshot.get(process.parent)
    if parent is not None and parent.alive and quotes(parent):
        return ""
    if place := runs_from_root(process):
        return f"{place} lies below the root"
    return "it worked in the root" if process.is_rooted else ""
