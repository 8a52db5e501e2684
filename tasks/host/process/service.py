"""Decide which processes belong to the workload by their systemd service (runbook §2, §3)."""

from collections.abc import Callable, Collection, Mapping

from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.process import Process


def sitting_with(
    snapshot: Mapping[int, Process],
    members: Collection[int],
    units: Collection[str],
    keeps_others: Callable[[Process], bool],
) -> dict[int, str]:
    """Return the pids in a service of the workload, with the reason: `units` names it, or its main process is a member.

    Which that is systemd has told it; where it has not, every process that it may be has to be one: what a former job
    has left in the service of a runner of CI may be older than that. A service that contains a process for which
    `keeps_others` is true (cron, a supervisor) makes nobody a member: leftovers of an earlier cron may be older than
    the present one.
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
        mains = [each for each in services[unit] if each.served] or [
            each for each in services[unit] if each.parent == 1
        ]
        own = all(each.pid in members or each.session in members for each in mains)
        if own and not any(map(keeps_others, services[unit])):
            main = min(filter(_may_lead, mains), key=lambda each: each.identity.start)
            why[unit] = f"sits in {unit}, whose main process is {main.pid}"
    return {process.pid: fact for unit, fact in why.items() for process in services[unit] if process.pid not in members}


def _may_lead(process: Process) -> bool:
    """Return whether systemd started it. systemd makes its processes session leaders; orphans keep their session."""
    return process.alive and process.parent == 1 and process.session == process.pid and not process.container
