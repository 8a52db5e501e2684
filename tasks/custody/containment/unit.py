"""Decide how systemd services of a workload are kept down, and which of them may be acted on (runbook §1)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.custody.containment.process import Process
from tasks.custody.containment.service import unit_of


def condition(marker: Path) -> str:
    """The line of a unit's drop-in by which systemd does not start it while the marker is there."""
    return f"ConditionPathExists=!{str(marker).replace('%', '%%')}"


def drop_in(unit: str, marker: Path, policy: str) -> str:
    """What keeps a unit down: over a reboot too, with the marker's disk mounted first, and whoever asks for its start.

    Under policy kill systemd shall run nothing more of the workload: its commands for the end are taken away.
    """
    quoted = str(marker).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    lines = ["[Unit]", condition(marker), f'RequiresMountsFor="{quoted}"']
    if unit.endswith(".service"):
        lines += ["[Service]", "Restart=no", *(["ExecStop=", "ExecStopPost="] if policy == "kill" else [])]
    return "\n".join([*lines, ""])


def units_without(spared: Iterable[int], units: Iterable[str], snapshot: Mapping[int, Process]) -> tuple[str, ...]:
    """Those of the units in which none of the spared pids lives: systemd freezes and ends a unit as a whole."""
    taken = {unit_of(snapshot[pid].cgroup) for pid in spared if pid in snapshot}
    return tuple(unit for unit in units if unit not in taken)


def may_live(about: Mapping[str, str]) -> bool:
    """Whether processes of a unit may live, by its properties. One that waits for its restart has none."""
    sub = about.get("SubState", "dead")
    return not is_down(about) and sub != "exited" and not sub.startswith("auto-restart")


def is_down(about: Mapping[str, str]) -> bool:
    """Whether systemd calls the unit down, or knows none of that name."""
    return about.get("ActiveState", "inactive") in {"inactive", "failed"}
