"""§7: start the API as a process of the host again, tell it from a stranger's, end it if need be."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from posixpath import commonpath
from signal import SIGKILL
from typing import Final, Protocol

import psutil

from tasks.adapters.host import lives
from tasks.custody.containment.process import NOBODY, Identity, Process, family
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.pattern import literal_folder
from tasks.custody.evidence.redact import redact_command
from tasks.recovery.models_folder import HostFolder, ModelFolder
from tasks.runtime.context import RunContext
from tasks.runtime.state import IncidentState
from tasks.system.accounts import clean_environment

_GONE_SECONDS: Final = 10.0
_KILL_ROUNDS: Final = 10


class Revival(Protocol):
    """A way in which the API comes back."""

    @property
    def identity(self) -> Identity:
        """The process that serves it, or the first of its container."""

    @property
    def container(self) -> str:
        """Name of its container; empty for a process of the host."""

    @property
    def log(self) -> str:
        """Where a person reads what it says."""

    def again(self) -> bool:
        """Take the one that an earlier recovery brought back, if it lives."""

    @property
    def words(self) -> Iterable[str]:
        """Words and values that it is started with: they may name its model."""

    @property
    def folder(self) -> ModelFolder:
        """Where its models lie."""

    def prepare(self) -> None:
        """Do what comes before its files can be looked at and it can be started."""

    def start(self) -> None:
        """Start it."""

    def lives(self) -> bool:
        """Whether what was started lives."""

    def listens(self, port: int) -> bool:
        """Whether it is the one that answers there."""

    def keep(self) -> None:
        """Write down that it is ours: no new life of the workload."""

    def end(self) -> None:
        """End it with all that belongs to it."""


class ProcessApi:
    """The API as a process of the host."""

    container = ""

    def __init__(self, context: RunContext) -> None:
        """Nothing is started yet."""
        self.context = context
        self.log = str(context.directory.path / "api-restart.log")
        self._started: Identity | None = None

    @property
    def identity(self) -> Identity:
        """What was started."""
        return self._started or NOBODY

    def again(self) -> bool:
        """Look among those that this incident has brought back."""
        self._started = next(
            (who for who in self.context.state.recovered.read() if lives(self.context.adapters.host, who)), None
        )
        return self._started is not None

    @property
    def words(self) -> Iterable[str]:
        """Its command and its environment."""
        return [*self.context.workload.api_command, *self.context.workload.api_environment.values()]

    @property
    def folder(self) -> HostFolder:
        """The folder below which all models lie that the block's patterns can match, as models/."""
        block = self.context.workload
        models = commonpath([literal_folder(each) for each in block.models] or ["models"])
        return HostFolder(block.root, block.root / models, tuple(block.models))

    def prepare(self) -> None:
        """Nothing."""

    def start(self) -> None:
        """As the user of its receipt, in a scope or session of its own."""
        block, user = self.context.workload, _api_user(self.context)
        environment = clean_environment(user) | block.api_environment
        self._started = self.context.adapters.host.start(
            block.api_command, block.root, Path(self.log), user, environment
        )
        about = {"command": redact_command(block.api_command), "user": user}
        self.context.log.write("restarted", str(self.identity.pid), **about)

    def lives(self) -> bool:
        """Ask the kernel."""
        return self._started is not None and lives(self.context.adapters.host, self._started)

    def listens(self, port: int) -> bool:
        """It, or a child of it, owns the listening socket."""
        for process in self._family():
            with suppress(psutil.Error):
                for connection in psutil.Process(process.pid).net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        return True
        return False

    def keep(self) -> None:
        """Beside those that came before."""
        self.context.state.recovered.write([*self.context.state.recovered.read(), self.identity])

    def end(self) -> None:
        """Again, until no child is left."""
        for _ in range(_KILL_ROUNDS):
            family = [process.identity for process in self._family()]
            for identity in family:
                with suppress(ProcessLookupError):
                    self.context.adapters.host.signal(identity, SIGKILL)
            if not self.context.adapters.host.wait_gone(family, _GONE_SECONDS):
                break

    def _family(self) -> list[Process]:
        """What was started and all that descends from it; nobody where it is gone, whoever has its pid by now."""
        snapshot = self.context.adapters.host.snapshot()
        return [snapshot[pid] for pid in family(snapshot, {self.identity})]


def frozen_before(state: IncidentState) -> Iterator[Frozen]:
    """Every process as the freeze found it, before a reboot too; those of the last boot first."""
    return (process for journal in reversed(state.frozen.of_boots()) for process in journal)


def _api_user(context: RunContext) -> int:
    """As the freeze found it; the owner of the root where no API was frozen."""
    users = (process.user for process in frozen_before(context.state) if process.role == "api")
    return next(users, context.workload.root.stat().st_uid)
