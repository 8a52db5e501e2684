"""Act on the host: read processes, send signals, take the lock, start the API. Decisions are made elsewhere."""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path, PurePath
from typing import Final, Protocol

from tasks.custody.containment.identity import Identity
from tasks.host import detached_process as launch
from tasks.host import file_lock as lock
from tasks.host.cgroup.group import ControlGroup, Hierarchy
from tasks.host.guard_config import GuardConfig
from tasks.host.listening import Listening
from tasks.host.process import table as processes
from tasks.host.process.handles import FileId, Handles
from tasks.host.process.listening_sockets import listening_sockets
from tasks.host.process.open_files import find_written, read_handles
from tasks.host.process.places import Places, RootMemory
from tasks.host.process.process import Listener, Process, trace_lineage
from tasks.host.process.table import GONE
from tasks.host.unit.systemd import Systemd
from tasks.system.files.atomic_files import read_marker, sync_folder, write_marker
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

FREEZE_SECONDS: Final = 10.0
"""How long the freeze of a run looks for processes that it has not stopped yet."""
EARLY_FREEZE_SECONDS: Final = 5.0
"""How long the start of a run does, before it imports Prefect."""
_LINE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_TOGETHER: Final = 256


class Host(Protocol):
    """What the steps may do to a host; a dry run has another implementation."""

    @property
    def systemd(self) -> Systemd:
        """The host's systemd."""

    def snapshot(self) -> dict[int, Process]:
        """Return all processes as they are now, by pid."""

    def get_process(self, identity: Identity) -> Process | None:
        """Return one process as it is now, None if it is gone."""

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Return the processes with pids given out after `last`, newest first, and the last pid that was given out."""

    def births(self, last: int) -> tuple[int, list[Process]]:
        """Return what `arrivals` returns, without the places of the processes, which take most of the time."""

    def owners(self, port: int) -> list[Listener]:
        """Return the processes that listen on a TCP port of this host."""

    def ports(self, identities: Iterable[Identity]) -> frozenset[int]:
        """The TCP ports on which these processes listen."""

    def sockets(self, identities: Iterable[Identity]) -> frozenset[str]:
        """The sockets at which these processes listen, by the kernel's names."""

    def handles(
        self, processes: Iterable[Process], models: Collection[FileId] = (), accounts: Collection[int] = ()
    ) -> dict[Identity, Handles]:
        """Return what these processes have open and mapped beside the root, without those that are gone."""

    def find_holders(self) -> dict[FileId, tuple[tuple[Process, ...], ...]]:
        """Return who has which file open or mapped for writing, each with its ancestors, nearest first."""

    def compute_apps(self) -> tuple[str, str] | None:
        """Return what nvidia-smi says of processes that hold memory of a GPU, or why it does not; None without it."""

    def signal(self, identity: Identity, number: signal.Signals) -> None:
        """Send a signal to exactly this process. ProcessLookupError if it is gone, PermissionError if denied."""

    def group(self, path: str) -> ControlGroup | None:
        """Return the control group at the kernel's path; None if it cannot be used."""

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Wait up to `seconds` until they have ended; return those that have not."""

    def hold(self, orders: GuardConfig) -> Identity:
        """Start a guard that takes the lock, outlives us, watches, and writes the marker."""

    @property
    def started_guard(self) -> Identity | None:
        """The guard that `hold` started last: where no folder takes its marker, only who started it knows of it."""

    def guard(self, marker: Path) -> Identity | None:
        """Return the living guard that a marker names."""

    def has_lock(self, identity: Identity, path: Path) -> bool:
        """Return whether this process has the lock."""

    def refuses(self, path: Path) -> bool:
        """Try the lock as a launcher would; return whether it is refused."""

    def holder(self, path: Path) -> Process | None:
        """Return the process that has the lock, as far as the kernel tells."""

    def release(self, marker: Path) -> bool:
        """End the guard and remove the marker; False if there was no guard or marker."""

    def listen(self, root: PurePath, ours: Iterable[str], beside: Iterable[str]) -> Listening | None:
        """Start to listen for what changes below a folder, without `ours`, and below others.

        None in a dry run, which stops nothing.
        """

    def exit_code(self, identity: Identity) -> int | None:
        """Return how a process that we started ended, negative if by a signal; None while it runs."""

    def start(
        self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]
    ) -> Identity | None:
        """Start a program that outlives us, as that user, in a session of its own, with this environment only.

        Returns None in a dry run, which starts nothing.
        """


def send_signal(host: Host, identity: Identity, number: signal.Signals) -> str | None:
    """Send a signal to exactly this process. Return an empty text, the reason if denied, or None if it is gone."""
    try:
        host.signal(identity, number)
    except ProcessLookupError:
        return None
    except PermissionError:
        return f"{number.name} denied"
    return ""


def lives(host: Host, identity: Identity) -> bool:
    """Return whether a process exists and is no zombie."""
    process = host.get_process(identity)
    return process is not None and process.alive


def freeze_process(host: Host, process: Process, number: signal.Signals = signal.SIGSTOP) -> str | None:
    """Stop a process. Return an empty text, the reason if denied, or None if it is gone."""
    denied = send_signal(host, process.identity, number)
    if process.parent == 1 and denied == "" and number is signal.SIGSTOP:  # its watchdog would abort it
        host.systemd.watch(process.pid, on=False)
    return denied and f"{denied}, it belongs to user {process.user}"


def thaw_process(host: Host, identity: Identity) -> str | None:
    """Undo `freeze_process`. Return an empty text, the reason if denied, or None if it is gone."""
    denied = send_signal(host, identity, signal.SIGCONT)
    if denied == "":
        host.systemd.watch(identity.pid, on=True)
    return denied


class LinuxHost:
    """This host, through /proc and pidfds. A pidfd identifies a process exactly: a reused pid is never signalled."""

    def __init__(self, *ports: int | None, root: str | os.PathLike[str] | None = None) -> None:
        """Take the ports whose listeners are looked up in every snapshot, and the root that places are told of."""
        self._ports = frozenset(port for port in ports if port)
        self._memory = RootMemory(root) if root else None
        self._table: processes.ProcessTable | None = None
        self.systemd = Systemd()
        self.started_guard: Identity | None = None

    @property
    def _places(self) -> Places | None:
        """The calling thread's own."""
        return self._memory.places if self._memory else None

    def snapshot(self) -> dict[int, Process]:
        """Read /proc once."""
        places = self._places
        if places:
            places.forget()
        return processes.read_processes(self._ports, places)

    def look_again(self, changing: Callable[[Process], bool]) -> dict[int, Process]:
        """Return all processes, those that have not changed since the last call as they were. For one thread alone."""
        if places := self._places:
            self._table = self._table or processes.ProcessTable(self._ports, places)
        return self._table.look(changing) if self._table else self.snapshot()

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Read only the new processes."""
        return processes.arrivals(last, self._places)

    def births(self, last: int) -> tuple[int, list[Process]]:
        """Read only the new processes, without their places."""
        return processes.arrivals(last)

    def owners(self, port: int) -> list[Listener]:
        """Ask the kernel for the sockets, and read every process's descriptors."""
        return processes.owners(port)

    def ports(self, identities: Iterable[Identity]) -> frozenset[int]:
        """Ask the kernel for the sockets, and these processes for their files."""
        return processes.ports_of(identity.pid for identity in identities)

    def sockets(self, identities: Iterable[Identity]) -> frozenset[str]:
        """Ask the kernel for the sockets, and these processes for their files."""
        return listening_sockets(identity.pid for identity in identities)

    def handles(
        self, processes: Iterable[Process], models: Collection[FileId] = (), accounts: Collection[int] = ()
    ) -> dict[Identity, Handles]:
        """Read their files in /proc."""
        return read_handles(processes, self._places or Places(os.devnull), models, accounts)

    def find_holders(self) -> dict[FileId, tuple[tuple[Process, ...], ...]]:
        """Read the files of all processes in /proc, as long as `handles` takes."""
        snapshot, places = self.snapshot(), self._places or Places(os.devnull)
        found = dict[FileId, tuple[tuple[Process, ...], ...]]()
        for process in snapshot.values():
            for file in find_written(process, places) if process.alive else ():
                found[file] = (*found.get(file, ()), tuple(trace_lineage(snapshot, process.pid)))
        return found

    def compute_apps(self) -> tuple[str, str] | None:
        """Run it, for two seconds at most. Imported here: before a freeze each import counts."""
        from tasks.system import gpu

        return gpu.compute_apps()

    def get_process(self, identity: Identity) -> Process | None:
        """Read one process from /proc."""
        return processes.get_process(identity, self._places)

    def signal(self, identity: Identity, number: signal.Signals) -> None:
        """Send through a pidfd that was opened before the identity was checked, so that no other process is hit."""
        descriptor = os.pidfd_open(identity.pid)
        try:
            if processes.start_of(identity.pid) != identity.start:
                raise ProcessLookupError(identity.pid)
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)

    @cached_property
    def _hierarchy(self) -> Hierarchy | None:
        return Hierarchy.find()

    def group(self, path: str) -> ControlGroup | None:
        """Find it below the first writable mount of version 2."""
        return self._hierarchy.group(path) if self._hierarchy else None

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Wait on pidfds, which become readable when the process ends; some at a time, because descriptors are few."""
        deadline = time.monotonic() + seconds
        everyone, remaining = list(identities), frozenset[Identity]()
        for first in range(0, len(everyone), _TOGETHER):
            remaining |= self._wait_gone(everyone[first : first + _TOGETHER], deadline)
        return remaining

    def _wait_gone(self, identities: Iterable[Identity], deadline: float) -> frozenset[Identity]:
        waiting = {}
        for identity in identities:
            with suppress(*GONE):
                waiting[os.pidfd_open(identity.pid)] = identity
        try:
            alive = {descriptor: identity for descriptor, identity in waiting.items() if lives(self, identity)}
            poll = select.poll()
            for descriptor in alive:
                poll.register(descriptor, select.POLLIN)
            while alive and (remaining := deadline - time.monotonic()) > 0:
                for descriptor, _ in poll.poll(remaining * 1000):
                    poll.unregister(descriptor)
                    del alive[descriptor]
            return frozenset(alive.values())
        finally:
            for descriptor in waiting:
                os.close(descriptor)

    def hold(self, orders: GuardConfig) -> Identity:
        """Take the lock here, so that it holds at once, and pass the open file to the guard, which keeps it.

        If another process holds the lock, the guard waits for it; if the file cannot be opened, the guard watches
        without it. A living guard hands over its lock, which is never free in between; behind one that
        cannot, the new one waits for the lock when this returns. Both we and the guard write the marker, so that it is
        there even if we die here.
        """
        path, standing = Path(orders.lock), self.guard(Path(orders.marker))
        descriptor = lock.take(path, standing)
        try:
            identity = self.started_guard = launch.start_guard(descriptor, orders)
            if standing and descriptor is not None:
                self._await_line(identity, path)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        try:
            write_marker(Path(orders.marker), {**orders.row(), **asdict(identity)})
            sync_folder(Path(orders.marker).parent)
        except OSError as error:
            logger.error("The cordon's marker cannot be written: %s. The guard watches without it.", error)  # noqa: TRY400
        return identity

    def _await_line(self, guard: Identity, path: Path) -> None:
        poll_until(lambda: lock.has_lock(guard.pid, path) or lock.waits(guard.pid, path), _LINE_SECONDS, _POLL_SECONDS)

    def guard(self, marker: Path) -> Identity | None:
        """Return the process that the marker names if it lives and is a guard of ours: a marker can be forged."""
        identity = Identity.of(read_marker(marker))
        process = self.get_process(identity) if identity else None
        if not process or not process.alive or process.user != os.geteuid():
            return None
        if process.command[-4:-2] != ("-m", launch.GUARD) or process.command[-1] != str(marker):
            return None  # not ours, or another workload's
        return identity

    def has_lock(self, identity: Identity, path: Path) -> bool:
        """Ask the kernel."""
        return lock.has_lock(identity.pid, path)

    def refuses(self, path: Path) -> bool:
        """Try the lock as a launcher would."""
        return lock.refuses(path)

    def holder(self, path: Path) -> Process | None:
        """Return the process that took the lock."""
        return lock.holder(path)

    def release(self, marker: Path) -> bool:
        """End the guard; the lock is free when it is gone."""
        identity = self.guard(marker)
        if identity:
            with suppress(*GONE):
                self.signal(identity, signal.SIGTERM)
            if self.wait_gone([identity], 10):
                raise TimeoutError(f"the guard {identity.pid} did not end within 10 s")
        existed = marker.exists()
        marker.unlink(missing_ok=True)
        return existed

    def listen(self, root: PurePath, ours: Iterable[str], beside: Iterable[str]) -> Listening:
        """Start two witnesses, which end with us."""
        return Listening(root, ours, beside)

    def start(
        self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]
    ) -> Identity:
        """Start it in a scope or a session of its own."""
        orders = {"command": command, "root": folder, "user": user, "environment": {**environment}}
        return launch.start_program(orders, log)[0]

    def exit_code(self, identity: Identity) -> int | None:
        """Ask the kernel about our child."""
        return launch.exit_code(identity.pid)
