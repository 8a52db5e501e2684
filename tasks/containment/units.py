"""§1-§3 for the systemd services that the block names: kept down, frozen, stopped and let go through systemd."""

import logging
import time
from collections.abc import Mapping
from typing import Final

from tasks.custody.containment.process import Process
from tasks.custody.containment.service import unit_of
from tasks.custody.containment.unit import drop_in, is_down, may_live, units_without
from tasks.runtime.context import RunContext
from tasks.system.processes import untouchable

logger = logging.getLogger(__name__)

ASKED: Final = "systemctl stop"
_WAKES: Final = (".socket", ".path")
_POLL_SECONDS: Final = 0.05
_SETTLE_SECONDS: Final = 5.0


def keep_down(context: RunContext) -> None:
    """Have systemd start none of them, nor the sockets and paths that wake them, while the marker stands (§1)."""
    units = _named(context)
    everyone = [*units, *(each for unit in units for each in wakers(context, unit))]
    if units:
        wanted = {unit: drop_in(unit, context.marker, context.policy) for unit in everyone}
        _tell(context, "keep down", ", ".join(everyone), context.host.systemd.hold_down(context.marker, wanted))


def freeze_units(context: RunContext) -> None:
    """Have systemd freeze them too: a service that stands by signals alone is aborted by its watchdog (§2)."""
    for unit in _named(context):
        if may_live(context.host.systemd.shown(unit)):
            _tell(context, "freeze", unit, context.host.systemd.freeze(unit))


def stop_units(context: RunContext) -> frozenset[str]:
    """Have systemd stop what wakes them and, under policy graceful, thaw and stop them (§3); those that it does stop.

    The signals still hold everyone in them.
    """
    taken = set[str]()
    if context.policy == "graceful":
        thaw_units(context)
    for unit in _named(context):
        for waker in wakers(context, unit):
            _tell(context, "stop", waker, context.host.systemd.tell("stop", "--", waker))
        if context.policy == "graceful" and not is_down(context.host.systemd.shown(unit)):
            failed = context.host.systemd.tell("stop", "--no-block", "--", unit)
            _tell(context, "stop", unit, failed)
            taken |= set() if failed else {unit}
    return frozenset(taken)


def main_processes(context: RunContext, snapshot: Mapping[int, Process]) -> frozenset[int]:
    """Pids by whose end systemd takes each of them for ended: its main process, or any where it knows none."""
    found = set[int]()
    for unit in _named(context):
        if pids := [pid for pid, process in snapshot.items() if unit_of(process.cgroup) == unit and process.alive]:
            main = int(context.host.systemd.shown(unit).get("MainPID") or 0)
            found.add(main if main in pids else min(pids))
    return frozenset(found)


def thaw_units(context: RunContext) -> None:
    """Undo `freeze_units`. Whoever a signal holds still stands."""
    for unit in _named(context):
        if may_live(context.host.systemd.shown(unit)):
            _tell(context, "thaw", unit, context.host.systemd.tell("thaw", "--", unit))


def kill_units(context: RunContext) -> None:
    """After the signals: wait until systemd says that they are down; kill whatever else is in their control groups."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    left = list(_named(context))
    while left := [unit for unit in left if may_live(context.host.systemd.shown(unit))]:
        if time.monotonic() > deadline:
            break
        for unit in left:
            context.host.systemd.tell("kill", "--signal=SIGKILL", "--", unit)
        time.sleep(_POLL_SECONDS)
    for unit in _named(context):
        if context.host.systemd.shown(unit).get("SubState", "").startswith("auto-restart"):
            _tell(context, "stop", unit, context.host.systemd.tell("stop", "--", unit))


def standing_units(context: RunContext) -> tuple[str, ...]:
    """Those that systemd does not call down: what it will do with them it alone knows. None after our recovery."""
    if context.recovered():
        return ()
    told = {unit: context.host.systemd.shown(unit) for unit in context.workload.units}
    return tuple(
        f"systemd unit {unit} is {about['ActiveState']} ({about['SubState']}); stop it: systemctl stop {unit}"
        for unit, about in told.items()
        if not is_down(about) and about["SubState"] != "exited"
    )


def wakers(context: RunContext, unit: str) -> list[str]:
    """Sockets and paths on which systemd starts the unit. A timer only tries to, and is refused as everybody is."""
    return [each for each in context.host.systemd.shown(unit).get("TriggeredBy", "").split() if each.endswith(_WAKES)]


def _named(context: RunContext) -> tuple[str, ...]:
    if not context.workload.units:
        return ()
    snapshot = context.host.snapshot()
    return units_without(untouchable(snapshot), context.workload.units, snapshot)


def _tell(context: RunContext, act: str, unit: str, failed: str) -> None:
    context.log.write("unit", unit, act=act, failed=failed)
    if failed:
        told = (
            f"expected systemd to {act} {unit}; got: {failed}. Its processes are contained by signals alone: run the "
            "evacuation as root on a host with systemd. systemd で操作できず、シグナルのみで封じ込めています。"
        )
        logger.warning("%s", told)
        context.notes.append(told)
