"""Stand in for the host in a dry run: answer as if each act were done, and record it."""

import math
import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tasks.custody.containment.identity import NOBODY, Identity
from tasks.custody.evidence.redact import command_line
from tasks.custody.incident.log import CustodyLog
from tasks.host.cgroup.group import ControlGroup
from tasks.host.process.process import Listener, Process
from tasks.host.process.table import ticks
from tasks.host.unit.systemd import RehearsalSystemd

if TYPE_CHECKING:
    from tasks.host.guard_config import GuardConfig
    from tasks.host.host import Host
    from tasks.host.process.handles import FileId, Handles


class RehearsalHost:
    """Read the real host and change nothing on it."""

    def __init__(self, host: "Host", log: CustodyLog) -> None:
        """Take the real host, and the log for what would be done."""
        self._host, self._log = host, log
        self._frozen: set[Identity] = set()
        self._ended: set[Identity] = set()
        self._since = math.inf
        self.containers: dict[str, str] = {}
        """The states of containers as they would be, which the engine's twin keeps by their ids."""
        self.systemd = RehearsalSystemd(self._would)
        self._cordon: tuple[Identity, Path] | None = None

    def _would(self, act: str, subject: str, why: str = "") -> None:
        self._log.write("would", subject, act=act, why=why)

    def _as_if(self, process: Process) -> Process:
        return replace(process, state="T") if process.identity in self._frozen else process

    def snapshot(self) -> dict[int, Process]:
        """Return the real processes, without those that would have ended or that a frozen workload could not start."""
        seen = [each for each in self._host.snapshot().values() if each.identity not in self._ended]
        seen = [each for each in seen if self.containers.get(each.container or "") != "exited"]
        return {each.pid: self._as_if(each) for each in seen if each.identity.start < self._since}

    def get_process(self, identity: Identity) -> Process | None:
        """Return one process as it would be."""
        process = None if identity in self._ended else self._host.get_process(identity)
        return self._as_if(process) if process else None

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Return none: the workload goes on, so its new processes prove nothing."""
        return last, []

    births = arrivals

    def owners(self, port: int) -> list[Listener]:
        """Return those that would not have ended."""
        found = self._host.owners(port)
        return [each for each in found if not each.process or each.process.identity not in self._ended]

    def ports(self, identities: Iterable[Identity]) -> frozenset[int]:
        """Ask the real host: they listen on."""
        return self._host.ports(identities)

    def sockets(self, identities: Iterable[Identity]) -> frozenset[str]:
        """Ask the real host: they listen there."""
        return self._host.sockets(identities)

    def handles(
        self, processes: Iterable[Process], models: Collection["FileId"] = (), accounts: Collection[int] = ()
    ) -> dict[Identity, "Handles"]:
        """Ask the real host."""
        return self._host.handles(processes, models, accounts)

    def find_holders(self) -> "dict[FileId, tuple[tuple[Process, ...], ...]]":
        """Ask the real host: nothing was stopped."""
        return self._host.find_holders()

    def compute_apps(self) -> tuple[str, str] | None:
        """Ask the real driver, but for nothing that would have ended."""
        return None if self._ended else self._host.compute_apps()

    def signal(self, identity: Identity, number: signal.Signals) -> None:
        """Record the signal."""
        self._would(number.name, str(identity.pid))
        self._since = min(self._since, ticks())
        if number is signal.SIGSTOP:
            self._frozen.add(identity)
        elif number in {signal.SIGINT, signal.SIGTERM, signal.SIGKILL}:
            self._ended.add(identity)
        elif number is signal.SIGCONT:
            self._frozen.discard(identity)

    def group(self, path: str) -> "RehearsalGroup | None":
        """Return a group that records what would be done to it."""
        group = self._host.group(path)
        return RehearsalGroup(group.place, self._would) if group else None

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Return none at once: a process that would be signalled counts as ended."""
        del seconds
        self._ended |= set(identities)
        return frozenset()

    def hold(self, orders: "GuardConfig") -> Identity:
        """Record the cordon."""
        self._would("hold the lock", orders.lock, "no new training; the guard freezes what does not ask for it")
        self._cordon = (NOBODY, Path(orders.lock))
        return self._cordon[0]

    @property
    def started_guard(self) -> Identity | None:
        """The guard that would have been started."""
        return self._cordon[0] if self._cordon else None

    def guard(self, marker: Path) -> Identity | None:
        """Return the guard that stands, else the one that would."""
        return self._host.guard(marker) or self.started_guard

    def has_lock(self, identity: Identity, path: Path) -> bool:
        """Return True for the lock that would be held."""
        return (identity, path) == self._cordon or self._host.has_lock(identity, path)

    def refuses(self, path: Path) -> bool:
        """Return True for the lock that would be held."""
        return (self._cordon is not None and self._cordon[1] == path) or self._host.refuses(path)

    def holder(self, path: Path) -> Process | None:
        """Return the real holder."""
        return self._host.holder(path)

    def listen(self, root: PurePath, ours: Iterable[str], beside: Iterable[str]) -> None:
        """Listen to nothing: the workload goes on."""

    def exit_code(self, identity: Identity) -> int | None:
        """Ask the real host: a dry run starts no process."""
        return self._host.exit_code(identity)

    def release(self, marker: Path) -> bool:
        """Record the release."""
        stands = self.guard(marker) is not None
        if stands:
            self._would("release the lock", str(marker))
        return stands

    def start(self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]) -> None:
        """Record the launch that tests the cordon, the only start of an evacuation without recovery."""
        del log, user, environment
        expected = "a real run expects it refused, or caught by the guard"
        self._would("launch", f"{command_line(command, folder=str(folder))} in {folder}", expected)


@dataclass(frozen=True)
class RehearsalGroup(ControlGroup):
    """A control group that is not created or written to."""

    would: Callable[[str, str], None]

    def make(self) -> str:
        """Record that it would be created."""
        self.would("make the control group", str(self.place))
        return ""

    def remove(self) -> str:
        """Do nothing: it was never created."""
        return ""

    def _write(self, name: str, value: str, *accepted: int) -> str:
        del accepted
        self.would(f"write {value} to {name}", str(self.place))
        return ""

    def _await(self, line: str) -> bool:
        return bool(line)
