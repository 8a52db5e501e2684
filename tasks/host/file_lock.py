"""Take the training lock, find its holder, hand it over, try it as a launcher would (runbook §1)."""

import errno
import fcntl
import logging
import os
import signal
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.host.process.known_programs import SHELLS, is_one_of
from tasks.host.process.process import Process, process_line
from tasks.host.process.table import read_process
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_START_SECONDS: Final = 10.0
_DOOR_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.01
_READINGS: Final = 3
_PEER: Final = struct.Struct("3i")
_SHOWN: Final = 80
_FIRST_NAMESPACE: Final = 0xEFFFFFFC
"""Inode of the host's own PID namespace. In any other /proc/locks leaves out a lock whose taker has ended."""


_CAREFUL: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Never follow links, never block: others may write to the folder, and a lease would block an open."""


def open_lock(lock: Path) -> int:
    """Open the lock file; without O_CREAT first, which in /tmp fails on another user's file, even for root.

    Raises OSError for a link, a hard link or a device, which must not be locked. A FIFO is accepted, since a launcher
    would find it too.
    """
    try:
        return _own(lock, os.open(lock, os.O_RDWR | _CAREFUL))
    except FileNotFoundError:
        return _own(lock, os.open(lock, os.O_RDWR | os.O_CREAT | _CAREFUL, 0o666))


def may_be_locked(status: os.stat_result) -> bool:
    """Return whether it is a file or a FIFO, without a second name."""
    return (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)) and status.st_nlink <= 1


def _own(lock: Path, descriptor: int) -> int:
    if may_be_locked(os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is a link or a device", str(lock))


def take(lock: Path, standing: Identity | None = None) -> int | None:
    """Return the open lock file, locked unless another process holds it; None if it cannot be opened.

    If `standing` is a running guard, the descriptor is that guard's own: the lock then passes to us without ever being
    free.
    """
    try:
        descriptor = (request_lock(standing, lock) if standing else None) or open_lock(lock)
    except OSError as error:
        logger.error("The lock %s cannot be opened: %s. The guard watches without it.", lock, error)  # noqa: TRY400
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def door(guard: Identity) -> str:
    """Return the name of the socket at which a guard hands over the lock: an abstract one, which needs no file."""
    return f"\0evacuation-guard-{guard.pid}-{guard.start}"


def open_door(guard: Identity) -> socket.socket:
    """Open this process's socket. Raises OSError on failure: its successor then has to wait for the lock."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(door(guard))
    listening.listen()
    return listening


def hand_over(listening: socket.socket, descriptor: int) -> None:
    """Send the open lock file to each process of our user that asks, for ever. A flock belongs to the open file."""
    while True:
        asking, _ = listening.accept()
        with asking, suppress(OSError):
            if peer_of(asking)[1] == os.geteuid():
                socket.send_fds(asking, [b"\0"], [descriptor])


def request_lock(guard: Identity, lock: Path) -> int | None:
    """Ask a guard for its open lock file; None if that is another file, or the guard sends none.

    Waits for a guard that is just starting, which opens its socket before it blocks SIGTERM.
    """

    def ask() -> list[int | None]:
        """Return the answer; nothing while it is starting."""
        process = read_process(guard.pid)
        try:
            return [_request_once(guard, lock)]
        except OSError as error:
            starts = process and process.masks.heeds(signal.SIGTERM) and isinstance(error, ConnectionRefusedError)
            return [] if starts else [None]

    return next(iter(poll_until(ask, _START_SECONDS, _POLL_SECONDS)), None)


def _request_once(guard: Identity, lock: Path) -> int | None:
    wanted = os.stat(lock, follow_symlinks=False)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_DOOR_SECONDS)
        asking.connect(door(guard))
        if peer_of(asking) != (guard.pid, os.geteuid()):
            return None
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        there = os.fstat(descriptor)
        if os.path.samestat(there, wanted):
            return descriptor
        os.close(descriptor)
    return None


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process at the other end, by the kernel."""
    pid, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user


def waits(pid: int, lock: Path) -> bool:
    """Return whether a process is queued for the lock, by the kernel."""
    return pid in _list_pids(lock, waiting=True)


def has_lock(pid: int, lock: Path) -> bool:
    """Return whether a process has the lock's file open and locked, and the file is still at the path.

    If the process's files are not readable, the answer is only whether it took the lock, by /proc/locks.
    """
    try:
        return bool(_descriptor(pid, lock))
    except PermissionError:
        return pid in _list_pids(lock)


def _descriptor(pid: int, lock: Path) -> str:
    """Return the descriptor by which a process has the lock; empty if it has not. Raises PermissionError."""
    try:
        wanted = lock.lstat()
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return ""
    for descriptor in descriptors:
        with suppress(OSError):
            there = os.stat(f"/proc/{pid}/fd/{descriptor}")
            info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
            if os.path.samestat(there, wanted) and "FLOCK  ADVISORY  WRITE" in info:
                return descriptor
    return ""


def holder(lock: Path) -> Process | None:
    """Return the process that holds the lock: the one that took it, else the oldest that inherited the open file.

    The younger may be commands of a shell that has it open, as this one.
    """
    if process := taker(lock):
        return process
    is_whole = os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    names = os.listdir("/proc") if lock.exists() and (_list_pids(lock) or not is_whole) else ()
    pids = (int(name) for name in names if name.isdigit())
    there = filter(None, (read_process(pid) for pid in pids if has_lock(pid, lock)))
    return min(there, key=lambda process: process.identity.start, default=None)


def tell_holder(process: Process, lock: Path) -> str:
    """Return by pid and command that a process holds the lock; for a shell also what to type in it to let it go."""
    number = ""
    with suppress(PermissionError):
        number = _descriptor(process.pid, lock) if is_one_of(SHELLS, process) else ""
    close = f" by its descriptor {number}: in that shell そのシェルで `exec {number}>&-`" if number else ""
    return f"process {process.pid} ({process_line(process, _SHOWN)}) holds it{close}"


def taker(lock: Path) -> Process | None:
    """Return the process that took the lock and still has it; None if it has ended, even if the file was inherited."""
    pids = (pid for pid in _list_pids(lock) if has_lock(pid, lock))
    return next(filter(None, map(read_process, pids)), None)


def _list_pids(lock: Path, *, waiting: bool = False) -> list[int]:
    """Return the pids that took the lock, or wait for it, by /proc/locks.

    The kernel may skip entries while others unlock, so an empty reading is repeated. No account writes text there.
    """
    try:
        there = lock.lstat()
    except OSError:
        return []
    wanted = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
    for _ in range(_READINGS):
        with suppress(OSError):
            text = Path("/proc/locks").read_text()  # anybody may have any number of locks
            lines = text.splitlines() if wanted in text else ()
            if found := [pid for line in lines if wanted in line and (pid := _pid(waiting, line.split(), wanted))]:
                return found
    return []


def _pid(waiting: bool, words: list[str], wanted: str) -> int:  # noqa: FBT001  it is matched with the words
    match waiting, words:
        case (False, [_, "FLOCK", _, _, pid, file, *_]) | (True, [_, "->", "FLOCK", _, _, pid, file, *_]):
            return max(int(pid), 0) if file == wanted else 0
    return 0


def refuses(lock: Path) -> bool:
    """Return whether the lock refuses a launcher. A missing file, a link or a device refuses nobody."""
    try:
        descriptor = _own(lock, os.open(lock, os.O_RDONLY | _CAREFUL))
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
