"""The one door to the host: processes, signals, the lock, starting the API. Everything else decides, this acts."""

import fcntl
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tasks import guard
from tasks.custody.process import Identity, Process
from tasks.proc import GONE, read_process, start_of


class Host(Protocol):
    """What the verbs may do to a host. A dry run puts another host behind the same door."""

    def snapshot(self) -> dict[int, Process]:
        """All processes as they are now, by pid."""

    def look(self, identity: Identity) -> Process | None:
        """One process as it is now, None if it is gone."""

    def signal(self, identity: Identity, number: signal.Signals) -> None:
        """Send a signal to exactly this process. ProcessLookupError if it is gone, PermissionError if denied."""

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Wait until they have ended, at most so long; give back those that have not."""

    def hold(self, lock: Path, marker: Path, about: Mapping[str, str]) -> None:
        """Start a guard that takes the lock, keeps it when we are gone, and says so in the marker."""

    def guard(self, marker: Path) -> Identity | None:
        """The living guard that a marker names."""

    def holds(self, identity: Identity, lock: Path) -> bool:
        """True if this process has the lock."""

    def refuses(self, lock: Path) -> bool:
        """Try the lock as a launcher would; True if it is refused."""

    def release(self, marker: Path) -> bool:
        """End the guard and remove the marker; False if there was nothing to release."""

    def start(
        self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]
    ) -> Identity:
        """Start a program that outlives us, as that user, in a session of its own, with this environment only."""


class LinuxHost:
    """This host, through /proc and pidfds. A pidfd makes identity exact: a reused pid is never signalled."""

    def snapshot(self) -> dict[int, Process]:
        """Read /proc once; processes that vanish meanwhile are not in it."""
        found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return {process.pid: process for process in found if process}

    def look(self, identity: Identity) -> Process | None:
        """Read one process; None if its pid is gone or belongs to another by now."""
        process = read_process(identity.pid)
        return process if process and process.identity == identity else None

    def signal(self, identity: Identity, number: signal.Signals) -> None:
        """Send through a pidfd opened before the identity was checked, so that nothing can slip in between."""
        descriptor = os.pidfd_open(identity.pid)
        try:
            if not self.look(identity):
                raise ProcessLookupError(identity.pid)
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Wait on pidfds, which become readable when the process has ended."""
        deadline = time.monotonic() + seconds
        waiting = {}
        for identity in identities:
            with suppress(*GONE):
                waiting[os.pidfd_open(identity.pid)] = identity
        try:
            return self._poll(waiting, deadline)
        finally:
            for descriptor in waiting:
                os.close(descriptor)

    def _poll(self, waiting: Mapping[int, Identity], deadline: float) -> frozenset[Identity]:
        alive = {descriptor: who for descriptor, who in waiting.items() if self._lives(who)}
        poll = select.poll()
        for descriptor in alive:
            poll.register(descriptor, select.POLLIN)
        while alive and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                del alive[descriptor]
        return frozenset(alive.values())

    def _lives(self, identity: Identity) -> bool:
        process = self.look(identity)
        return process is not None and process.alive

    def hold(self, lock: Path, marker: Path, about: Mapping[str, str]) -> None:
        """Take the lock here, so that it holds at once, and hand the open file to the guard, which keeps it.

        Where somebody else holds the lock the guard waits for it. PermissionError if the file cannot be opened.
        """
        descriptor = open_lock(lock)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._spawn_guard(descriptor, lock, marker, about)
        finally:
            os.close(descriptor)

    def _spawn_guard(self, descriptor: int, lock: Path, marker: Path, about: Mapping[str, str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        identity = Identity(process.pid, start_of(process.pid))
        guard.write_marker(marker, {**about, "lock": str(lock), "pid": identity.pid, "start": identity.start})
        _forget(process)

    def guard(self, marker: Path) -> Identity | None:
        """Look whether the process that the marker names lives and is a guard of ours: a marker can be forged."""
        identity = _named(marker)
        process = self.look(identity) if identity else None
        if not process or not process.alive or process.user != os.geteuid() or guard.__file__ not in process.command:
            return None
        return identity

    def holds(self, identity: Identity, lock: Path) -> bool:
        """Ask the kernel: the lock's file is open there with a lock on it, and the path still leads to that file."""
        try:
            wanted = lock.stat()
            descriptors = os.listdir(f"/proc/{identity.pid}/fd")
        except OSError:
            return False
        return any(_locks(identity.pid, descriptor, wanted) for descriptor in descriptors)

    def refuses(self, lock: Path) -> bool:
        """Try the lock as a launcher would; a missing file refuses nobody."""
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

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

    def start(
        self, command: Sequence[str], folder: Path, log: Path, user: int, environment: Mapping[str, str]
    ) -> Identity:
        """Start it detached; its output goes to the log. As root, as the given user; else as ourselves."""
        account = pwd.getpwuid(user) if os.geteuid() == 0 and user > 0 else None
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=os.getgrouplist(account.pw_name, account.pw_gid) if account else None,
            )
        identity = Identity(process.pid, start_of(process.pid))
        _forget(process)
        return identity


def _named(marker: Path) -> Identity | None:
    about = guard.read_marker(marker)
    try:
        return Identity(int(about["pid"]), int(about["start"]))
    except (KeyError, TypeError, ValueError):
        return None


def _forget(process: subprocess.Popen[bytes]) -> None:
    """Tell subprocess that the child is meant to outlive us, else it warns when the object is collected."""
    process.returncode = 0


def _locks(pid: int, descriptor: str, wanted: os.stat_result) -> bool:
    try:
        there = os.stat(f"/proc/{pid}/fd/{descriptor}")
        info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino) and "FLOCK  ADVISORY  WRITE" in info


def open_lock(lock: Path) -> int:
    """Open the lock file, without O_CREAT first: in /tmp that can fail on another user's file, even for root."""
    try:
        return os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
