"""The training lock, as the kernel sees it: take it, ask who has it, try it as a launcher would (runbook §1)."""

import fcntl
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tasks.custody.process import Process
from tasks.proc import read_process

logger = logging.getLogger(__name__)


def open_lock(lock: Path) -> int:
    """Open the lock file, without O_CREAT first: in /tmp that can fail on another user's file, even for root."""
    try:
        return os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def take(lock: Path) -> int | None:
    """The open lock file, locked unless somebody else has it; None if it cannot be opened at all."""
    try:
        descriptor = open_lock(lock)
    except OSError as error:
        logger.error("The lock %s cannot be opened: %s. The guard watches without it.", lock, error)  # noqa: TRY400
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def holds(pid: int, lock: Path) -> bool:
    """Ask the kernel: the lock's file is open there with a lock on it, and the path still leads to that file."""
    try:
        wanted = lock.stat()
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_locks(pid, descriptor, wanted) for descriptor in descriptors)


def _locks(pid: int, descriptor: str, wanted: os.stat_result) -> bool:
    try:
        there = os.stat(f"/proc/{pid}/fd/{descriptor}")
        info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino) and "FLOCK  ADVISORY  WRITE" in info


def holder(lock: Path) -> Process | None:
    """Who has the lock: who took it, by /proc/locks, if it is still open there; else whoever has inherited it."""
    took = _took(lock)
    everyone = (int(name) for name in os.listdir("/proc") if name.isdigit()) if took else ()
    return _first_holder((*took, *everyone), lock)


def taker(lock: Path) -> Process | None:
    """Find the process that took the lock and still has it. None if it is gone, whoever has inherited the open file."""
    return _first_holder(_took(lock), lock)


def _first_holder(pids: Iterable[int], lock: Path) -> Process | None:
    return next((process for pid in pids if holds(pid, lock) and (process := read_process(pid))), None)


def _took(lock: Path) -> list[int]:
    try:
        there = lock.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    wanted = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
    return [pid for line in lines if (pid := _owner(line.split(), wanted))]


def _owner(words: list[str], wanted: str) -> int:
    match words:
        case [_, "FLOCK", _, _, pid, file, *_] if file == wanted:
            return max(int(pid), 0)
    return 0


def refuses(lock: Path) -> bool:
    """Try the lock as a launcher would; a missing file refuses nobody."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
