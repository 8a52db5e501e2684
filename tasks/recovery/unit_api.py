"""§7: start the API again as the systemd service that it was."""

from collections.abc import Iterable

from blocks.workload import Workload
from tasks.containment.units import Units, wakers
from tasks.custody.containment.receipt import Frozen
from tasks.recovery.api_client import failure
from tasks.recovery.process_api import ProcessApi, frozen_before
from tasks.runtime.context import RunContext


def unit_of_api(context: RunContext) -> str:
    """The service, of those that the block names, that the API ran in when it was frozen; empty if in none.

    An API that renames itself is known by no pattern: then it is the only service that holds neither training nor
    workers.
    """
    found: dict[str, set[str]] = {}
    for process in frozen_before(context.state):
        for unit in _units(context.workload, process):
            found.setdefault(unit, set()).add(process.role)
    apis = [unit for unit, roles in found.items() if "api" in roles]
    others = [unit for unit, roles in found.items() if not roles & {"training", "worker"}]
    return next(iter(apis or (others if len(others) == 1 else [])), "")


def _units(workload: Workload, frozen: Frozen) -> list[str]:
    return [source.name for source in frozen.lineage if not source.identity and source.name in workload.units]


class UnitApi(ProcessApi):
    """The API as a service of systemd, which starts it as its unit says."""

    def __init__(self, context: RunContext, unit: str) -> None:
        """Nothing is started yet."""
        super().__init__(context)
        self.unit = unit
        self.log = f"journalctl -u {unit}"

    def again(self) -> bool:
        """After an earlier recovery it may have been started again by systemd, as its unit asks."""
        return bool(self.context.state.recovered.read()) and self._find()

    @property
    def words(self) -> Iterable[str]:
        """Command lines of the service as it was frozen, and the environment that its unit gives it."""
        frozen = [
            each.command
            for each in frozen_before(self.context.state)
            if self.unit in _units(self.context.workload, each)
        ]
        return [*frozen, self.context.adapters.host.systemd.shown(self.unit).get("Environment", "")]

    def start(self) -> None:
        """Have systemd start it, with the sockets and paths that wake it."""
        failed = self.context.adapters.host.systemd.tell(
            "start", "--", *wakers(self.context.adapters.host.systemd, self.unit), self.unit
        )
        self.context.log.write("restarted", self.unit, command=["systemctl", "start", self.unit], failed=failed)
        if failed or not self._find():
            raise failure(f"systemd to start {self.unit}", failed or "a unit without a process")

    def lives(self) -> bool:
        """Whether systemd keeps it up: a service that it starts again is the one that was started."""
        return self._find()

    def end(self) -> None:
        """Keep it down before it is killed."""
        Units(self.context).keep_down()
        self.context.adapters.host.systemd.tell("kill", "--signal=SIGKILL", "--", self.unit)
        super().end()
        self.context.adapters.host.systemd.tell("stop", "--", self.unit)

    def _find(self) -> bool:
        pid = int(self.context.adapters.host.systemd.shown(self.unit).get("MainPID") or 0)
        process = self.context.adapters.host.snapshot().get(pid)
        self._started = process.identity if process else None
        return process is not None
