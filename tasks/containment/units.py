"""§1-§3 for the systemd services that the block names: keep them down, freeze, stop and release them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.process import Process
from tasks.host.process.table import untouchable
from tasks.host.unit.kept_down import UNANSWERED, drop_in, is_down, may_live, units_without, wakers
from tasks.host.unit.systemd import Systemd
from tasks.runtime.context import RunContext
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

ASKED: Final = "systemctl stop"
_SETTLE_SECONDS: Final = 5.0


class Units:
    """The services of one workload. `warnings` say what systemd could not be made to do.

    `stopping` are those that `stop` had systemd stop.
    """

    def __init__(self, context: RunContext) -> None:
        """Leave out the services in which this run, its worker or its server lives."""
        self._systemd, self._log = context.adapters.host.systemd, context.log
        self._marker, self._policy = context.cordon_files.marker, context.run.policy
        self.warnings: list[str] = []
        self.stopping = frozenset[str]()
        self.names: tuple[str, ...] = ()
        if context.workload.units:
            snapshot = context.adapters.host.snapshot()
            self.names = units_without(untouchable(snapshot), context.workload.units, snapshot)

    def keep_down(self) -> None:
        """Forbid systemd to start them, or the sockets and paths that wake them, while the marker stands (§1)."""
        everyone = [*self.names, *(each for unit in self.names for each in wakers(self._systemd.show(unit)))]
        if self.names:
            wanted = {unit: drop_in(unit, self._marker, self._policy) for unit in everyone}
            self._tell("keep down", ", ".join(everyone), self._systemd.hold_down(self._marker, wanted))

    def freeze(self) -> None:
        """Have systemd freeze them too: its watchdog aborts a service that is stopped by signals alone (§2)."""
        for unit in self._living():
            self._tell("freeze", unit, self._systemd.freeze(unit))

    def thaw(self) -> None:
        """Undo `freeze`. Processes stopped by a signal stay stopped."""
        for unit in self._living():
            self._tell("thaw", unit, self._systemd.tell("thaw", "--", unit))

    def stop(self) -> None:
        """Have systemd stop what wakes them and, under policy graceful, thaw and stop them (§3).

        Processes stopped by a signal stay stopped.
        """
        if self._policy == "graceful":
            self.thaw()
        for unit in self.names:
            for waker in wakers(self._systemd.show(unit)):
                self._tell("stop", waker, self._systemd.tell("stop", "--", waker))
            if self._policy == "graceful" and not is_down(self._systemd.show(unit)):
                failed = self._systemd.tell("stop", "--no-block", "--", unit)
                self._tell("stop", unit, failed)
                self.stopping |= set() if failed else {unit}

    def holds(self, process: Process) -> bool:
        """Return whether a process is in a service that systemd was asked to stop."""
        return unit_of(process.cgroup) in self.stopping

    def still_stopping(self) -> bool:
        """Return whether a service that systemd was asked to stop is still up."""
        return any(may_live(self._systemd.show(unit)) for unit in self.stopping)

    def main_processes(self, snapshot: Mapping[int, Process]) -> frozenset[int]:
        """Return pids whose end means the service's end to systemd: its main process, or any if it knows none."""
        found = set[int]()
        for unit in self.names:
            if pids := [pid for pid, process in snapshot.items() if unit_of(process.cgroup) == unit and process.alive]:
                main = int(self._systemd.show(unit).get("MainPID") or 0)
                found.add(main if main in pids else min(pids))
        return frozenset(found)

    def kill(self) -> None:
        """Wait until systemd has them down; kill whatever is left in their control groups. Call after the signals."""
        poll_until(self._are_down, _SETTLE_SECONDS)
        for unit in self.names:
            properties = self._systemd.show(unit)
            if properties == UNANSWERED:
                self._tell("kill", unit, UNANSWERED["SubState"])
            elif properties.get("SubState", "").startswith("auto-restart"):
                self._tell("stop", unit, self._systemd.tell("stop", "--", unit))

    def _are_down(self) -> bool:
        living = self._living()
        for unit in living:
            self._systemd.tell("kill", "--signal=SIGKILL", "--", unit)
        return not living

    def _living(self) -> list[str]:
        return [unit for unit in self.names if may_live(self._systemd.show(unit))]

    def _tell(self, act: str, unit: str, failed: str) -> None:
        self._log.write("unit", unit, act=act, failed=failed)
        if failed:
            message = (
                f"expected systemd to {act} {unit}; got: {failed}. Its processes are contained by signals alone: run "
                "the evacuation as root on a host with systemd. systemd で操作できず、シグナルのみで封じ込めています。"
            )
            logger.warning("%s", message)
            self.warnings.append(message)


def standing_units(systemd: Systemd, names: Iterable[str]) -> tuple[str, ...]:
    """Return the services that systemd does not have down: it alone knows what it will do with them."""
    properties_of = {unit: systemd.show(unit) for unit in names}
    return tuple(
        f"systemd unit {unit} is {properties['ActiveState']} ({properties['SubState']}); stop it: systemctl stop {unit}"
        for unit, properties in properties_of.items()
        if not is_down(properties) and properties["SubState"] != "exited"
    )
