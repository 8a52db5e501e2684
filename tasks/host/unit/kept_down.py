"""Decide how systemd services of a workload are kept down, and which may be acted on (runbook §1)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.process import Process

UNANSWERED: Final[Mapping[str, str]] = {"ActiveState": "in an unknown state", "SubState": "systemctl gives no answer"}
"""Stands for the properties of a unit of which a booted systemd says nothing: it may be up, or start again."""


def condition(marker: Path) -> str:
    """Return the drop-in line that keeps systemd from starting a unit while the marker exists."""
    return f"ConditionPathExists=!{str(marker).replace('%', '%%')}"


def drop_in(unit: str, marker: Path, policy: str) -> str:
    """Return the drop-in that keeps a unit down, also over a reboot and against any request to start it.

    The marker's file system is mounted first. Policy kill also clears the unit's stop commands, so that no more code of
    the workload runs.
    """
    quoted = str(marker).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    lines = ["[Unit]", condition(marker), f'RequiresMountsFor="{quoted}"']
    if unit.endswith(".service"):
        lines += ["[Service]", "Restart=no", *(["ExecStop=", "ExecStopPost="] if policy == "kill" else [])]
    return "\n".join([*lines, ""])


def units_without(
    protected_pids: Iterable[int], units: Iterable[str], snapshot: Mapping[int, Process]
) -> tuple[str, ...]:
    """Return the units without a protected pid: systemd freezes and ends a unit as a whole."""
    taken = {unit_of(snapshot[pid].cgroup) for pid in protected_pids if pid in snapshot}
    return tuple(unit for unit in units if unit not in taken)


def wakers(properties: Mapping[str, str]) -> list[str]:
    """Return the sockets and paths on which systemd starts a unit, by its properties.

    Timers are left: the starts that they ask for are refused.
    """
    return [each for each in properties.get("TriggeredBy", "").split() if each.endswith((".socket", ".path"))]


def may_live(properties: Mapping[str, str]) -> bool:
    """Return whether processes of a unit may be alive, by its properties. One waiting for its restart has none."""
    sub = properties.get("SubState", "dead")
    return not is_down(properties) and sub != "exited" and not sub.startswith("auto-restart")


def is_down(properties: Mapping[str, str]) -> bool:
    """Return whether the unit is inactive, failed or unknown to systemd."""
    return properties.get("ActiveState", "inactive") in {"inactive", "failed"}
