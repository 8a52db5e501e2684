"""§7: restart the API as the systemd service that it was."""

from collections.abc import Iterable

from blocks.workload import Workload
from tasks.containment.units import Units
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.redact import command_line
from tasks.evidence.other_starts import pair
from tasks.evidence.process_start import differing_in_unit
from tasks.host.cgroup.ownership import unit_of
from tasks.host.unit.kept_down import wakers
from tasks.recovery.api_client import failure
from tasks.recovery.process_api import LINE, ProcessApi, tell_others
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_before
from tasks.runtime.state import IncidentState


def unit_of_api(workload: Workload, state: IncidentState) -> str:
    """Return the service of the block that the API ran in when it was frozen; empty if none.

    An API that renames itself matches no pattern: then it is the only service with neither training nor workers.
    """
    roles_of: dict[str, set[str]] = {}
    for process in frozen_before(state):
        for unit in _units(workload, process):
            roles_of.setdefault(unit, set()).add(process.role)
    apis = [unit for unit, roles in roles_of.items() if "api" in roles]
    others = [unit for unit, roles in roles_of.items() if not roles & {"training", "worker"}]
    return next(iter(apis or (others if len(others) == 1 else [])), "")


def _units(workload: Workload, frozen: Frozen) -> list[str]:
    return [source.name for source in frozen.lineage if not source.identity and source.name in workload.units]


class UnitApi(ProcessApi):
    """The API as a systemd service, started as its unit says."""

    def __init__(self, context: RunContext, unit: str) -> None:
        """Keep the unit's name; starts nothing."""
        super().__init__(context)
        self.unit, self.systemd = unit, context.adapters.host.systemd
        self.log = f"journalctl -u {unit}"

    def again(self) -> bool:
        """Return whether systemd has the service up again after an earlier recovery."""
        return bool(self.context.state.recovered.read()) and self.lives()

    @property
    def words(self) -> Iterable[str]:
        """Command lines of the service when it was frozen, and the environment of its unit."""
        before, workload = frozen_before(self.context.state), self.context.workload
        frozen = [each.command for each in before if self.unit in _units(workload, each)]
        variables = (each.partition("=") for each in self.systemd.show(self.unit).get("Environment", "").split())
        return [*frozen, " ".join(f"{name}{sign}{self.meant(value)}" for name, sign, value in variables)]

    def prepare(self) -> None:
        """Do nothing: what the service runs stands in its unit, not in the block."""

    def start(self) -> None:
        """Start the service, with the sockets and paths that wake it."""
        failed = self.systemd.tell("start", "--", *wakers(self.systemd.show(self.unit)), self.unit)
        self.context.log.write("restarted", self.unit, command=["systemctl", "start", self.unit], failed=failed)
        if failed or not self.lives():
            raise failure(f"systemd to start {self.unit}", failed or "a unit without a process")

    def find_doubt(self) -> str:
        """Return by name what the service does not have as it was kept: its unit, or what that reads, was changed.

        What the service's first process has started is left out: it has what that has.
        """
        kept = self._starts
        pids = {each["pid"] for each in kept}
        first = [each for each in kept if each.get("parent") not in pids]
        lines = [] if first else ["how it ran was not read at the freeze: api_pattern has to match it"]
        for start, there in pair(first, self._read_now(first)):
            names = ", ".join(differing_in_unit(start, there)) if there else "missing 復旧後に不在"
            lines += [f"{command_line(start['command'], LINE, start['folder'])}: {names}"] if names else []
        self.context.state.unlike.write([each.identity for each in self._family()] if lines else [])
        how = f"if it is to run so, `systemctl restart {self.unit}`; ユニット変更の可能性"
        return f"that it runs as it ran, {'; '.join(lines)} 元の実行条件と異なる ({how})" if lines else ""

    def find_brought(self) -> tuple[str, ...]:
        """Return what of training and workers runs in the service."""
        processes = self.host.snapshot().values()
        return tell_others((each for each in processes if unit_of(each.cgroup) == self.unit), [], self.context.workload)

    def lives(self) -> bool:
        """Return whether systemd has the service up. A service that systemd has restarted counts too."""
        pid = int(self.systemd.show(self.unit).get("MainPID") or 0)
        process = self.host.snapshot().get(pid)
        self._started = process.identity if process else None
        return process is not None

    def end(self) -> None:
        """Forbid the service's start, then end it."""
        Units(self.context).keep_down()
        self.systemd.tell("kill", "--signal=SIGKILL", "--", self.unit)
        super().end()
        self.systemd.tell("stop", "--", self.unit)
