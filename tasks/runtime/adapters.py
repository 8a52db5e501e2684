"""Open what a run acts on the outside with: the host, the container engine, Prefect's own side."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from tasks.adapters.container_engine import DockerEngine, Engine
from tasks.adapters.dry_run import RehearsalHost, RehearsalScheduler
from tasks.adapters.dry_run_engine import RehearsalEngine
from tasks.adapters.host import Host, LinuxHost
from tasks.adapters.prefect_scheduler import PrefectScheduler, Scheduler
from tasks.custody.incident.log import CustodyLog

if TYPE_CHECKING:
    from blocks.workload import Workload


class Adapters:
    """The host, the container engine (connected to on first use), and Prefect's scheduler."""

    def __init__(self, host: Host, scheduler: Scheduler, open_engine: Callable[[], Engine]) -> None:
        """Nothing is asked yet."""
        self.host, self.scheduler, self._open_engine = host, scheduler, open_engine

    @cached_property
    def engine(self) -> Engine:
        """The container engine."""
        return self._open_engine()

    def close(self) -> None:
        """Close the connection to the engine, if there is one. Idempotent."""
        if engine := self.__dict__.pop("engine", None):
            engine.close()


def open_adapters(workload: "Workload", log: CustodyLog, *, dry_run: bool) -> Adapters:
    """Open the real ones; for a dry run, ones that look at the real ones and write acts into `log` alone."""
    host, scheduler = LinuxHost(workload.api_port), PrefectScheduler()

    def engine() -> Engine:
        real = DockerEngine(workload.docker_host)
        return RehearsalEngine(real, log) if dry_run else real

    if dry_run:
        return Adapters(RehearsalHost(host, log), RehearsalScheduler(scheduler, log), engine)
    return Adapters(host, scheduler, engine)
