"""Decide which processes belong to the workload by their systemd service (runbook §2, §3)."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Process

_USER_MANAGER: Final = re.compile(r"user@\d+\.service")


@lru_cache(maxsize=1024)
def unit_of(cgroup: str) -> str:
    """Return the system service of a process with this cgroup; empty for logins, scopes and users' own services."""
    for line in cgroup.split("\n"):
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
    """Return the pids in a service of the workload, with the reason: `units` names it, or its main process is a member.

    A service that contains a process for which `keeps_others` is true (cron, a supervisor) makes nobody a member:
    leftovers of an earlier cron may be older than the present one.
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
    """Return whether systemd started it. systemd makes its processes session leaders; orphans keep their session."""
    return process.alive and process.parent == 1 and process.session == process.pid and not process.container
