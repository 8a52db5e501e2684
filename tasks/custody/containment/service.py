"""Decide who belongs to the workload by the systemd service that it sits in (runbook §2, §3)."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Process

_USER_MANAGER: Final = re.compile(r"user@\d+\.service")


@lru_cache(maxsize=1024)
def unit_of(cgroup: str) -> str:
    """The system service that a process belongs to by its control group; empty for a login, a scope or a user's own."""
    for line in cgroup.splitlines():
        path = PurePath(line.rpartition(":")[2])
        if any(_USER_MANAGER.fullmatch(part) for part in path.parts):
            continue
        if services := [part for part in path.parts if part.endswith(".service")]:
            return services[-1]
    return ""


def sitting_with(
    snapshot: Mapping[int, Process],
    members: Collection[int],
    units: Collection[str],
    keeps_others: Callable[[Process], bool],
) -> dict[int, str]:
    """Pids of those who sit in a service of the workload, with the fact: `units` names it, or its main process does.

    A service in which one sits that `keeps_others`, a cron or a supervisor, makes nobody a member: what an earlier cron
    has left there may be older than the present one.
    """
    leaders = {unit_of(snapshot[pid].cgroup) for pid in members if _may_lead(snapshot[pid])} - {"", *units}
    if not leaders and not units:
        return {}
    services: dict[str, list[Process]] = {unit: [] for unit in (*units, *leaders)}
    for process in snapshot.values():
        if process.alive and not process.container and (unit := unit_of(process.cgroup)) in services:
            services[unit].append(process)
    why = {unit: f"sits in {unit}, which `units` names" for unit in units}
    for unit in leaders:
        main = min((each for each in services[unit] if each.parent == 1), key=lambda each: each.identity.start)
        if main.pid in members and _may_lead(main) and not any(map(keeps_others, services[unit])):
            why[unit] = f"sits in {unit}, whose main process is {main.pid}"
    return {process.pid: fact for unit, fact in why.items() for process in services[unit] if process.pid not in members}


def _may_lead(process: Process) -> bool:
    """Systemd makes what it starts the leader of a session; what only lost its parent is in that of who started it."""
    return process.alive and process.parent == 1 and process.session == process.pid
