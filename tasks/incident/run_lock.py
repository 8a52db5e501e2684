"""Let only one run at a time work on a workload (.owner), and ignore a lock that is not held by a run of ours.

A run of root counts for every account. A run of another account counts only if that account owns the evidence folder
and could not have made it by itself: otherwise it may be the workload's account, which must not prevent an
evacuation.
"""

import errno
import fcntl
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tasks.custody.containment.identity import Identity
from tasks.custody.incident.incident import known_id
from tasks.host import file_lock as lock
from tasks.host.process.known_programs import runs_ours
from tasks.host.process.process import Process
from tasks.host.process.table import get_process, start_of
from tasks.incident.layout import OWNER, REHEARSAL
from tasks.system.files.atomic_files import read_plain
from tasks.system.files.ours import find_exposure, opened_folder
from tasks.system.polling import poll_until
from tasks.system.time_limit import time_limit

PAPER: Final = "postmortem"
"""Purpose of a run that touches no workload, so that it keeps no freeze from beginning."""
Purpose: TypeAlias = Literal["evacuation", "recovery", "release of the cordon", "thaw", "postmortem"]
_SETTLE_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.05
_IN_THE_WAY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO})
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_kept: Final[dict[Path, int]] = {}


def take_ownership(evidence: Path, purpose: Purpose = "evacuation", *, dry_run: bool = False) -> int | None:
    """Lock the workload's evidence folder for this process; None if another run of ours has it.

    A dry run has a separate lock, so that it never excludes a real run. A lock that is not held by a run of ours (any
    process that may write to the folder can hold it) is replaced after half a second, and so is whatever else lies
    there. Raises OSError if the folder takes no lock.
    """
    path = _path(evidence, dry_run=dry_run)
    if (kept := _kept.pop(path, None)) is not None:
        sign(kept, purpose)
        return kept
    descriptor: int | None = None

    def is_settled() -> bool:
        nonlocal descriptor
        descriptor = _open_locked(path)
        return descriptor is not None or is_owned(evidence, dry_run=dry_run)

    if not poll_until(is_settled, time_limit().remaining(_SETTLE_SECONDS), _POLL_SECONDS):
        descriptor = _put_in_place(path)
    if descriptor is not None:
        sign(descriptor, purpose)
    return descriptor


def _open_locked(path: Path) -> int | None:
    """Return the descriptor of the locked file if it still lies at the path; None if the lock cannot be taken.

    Nor is it taken of another account's file, in which that account could sign for us. Raises OSError if there is no
    folder, or one behind a link that is not followed.
    """
    with opened_folder(path.parent) as folder:
        try:
            descriptor = os.open(path.name, _LOCK | os.O_NONBLOCK, 0o644, dir_fd=folder)
        except OSError as error:
            if error.errno in _IN_THE_WAY:  # another account's: its run may be at work, or dead
                return None
            raise
    with suppress(BlockingIOError):
        if _is_of(os.fstat(descriptor), {0, os.geteuid()}):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.has_lock(os.getpid(), path):
                return descriptor
    os.close(descriptor)
    return None


def _put_in_place(path: Path) -> int:
    """Put a locked file of ours where a stranger's lies, who has no moment to lock it first. Return its descriptor."""
    beside, aside = (f"{path.name}-{os.urandom(16).hex()}" for _ in range(2))
    with opened_folder(path.parent) as folder:
        descriptor = os.open(beside, _LOCK | os.O_EXCL, 0o600, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir() and not path.is_symlink():
                os.rename(path.name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            os.replace(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)
            os.close(descriptor)
            raise
    if not lock.has_lock(os.getpid(), path):
        time_limit().lose(f"{path} was taken away at once: nothing keeps another run of this workload out")
    return descriptor


def _is_of(status: os.stat_result, accounts: set[int]) -> bool:
    """Return whether this is a file of one of these accounts under one name.

    By a second name, a file that a process of ours has locked for another purpose would look like its lock.
    """
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid in accounts


def take_from(evidence: Path, descriptor: int) -> bool:
    """Make this process the one that has the lock, by the open lock file that another process has handed to it.

    The kernel notes who took a lock: it is taken again, by way of a shared one, so that it is never free. False if that
    failed, as it may only if a process that is not ours shares it in that moment; the descriptor is closed then.
    """
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock.has_lock(os.getpid(), _path(evidence, dry_run=False)):
            sign(descriptor, "evacuation")
            return True
    os.close(descriptor)
    return False


def keep_ownership(evidence: Path, descriptor: int) -> None:
    """Keep the lock for the next `take_ownership` of this process: no other run can open an incident in between."""
    _kept[_path(evidence, dry_run=False)] = descriptor


def give_up_ownership(evidence: Path) -> None:
    """Release a kept lock that was never taken: the run was refused before it opened an incident."""
    if (kept := _kept.pop(_path(evidence, dry_run=False), None)) is not None:
        os.close(kept)


def has_ownership(evidence: Path) -> bool:
    """Return whether this process has the lock, kept or taken."""
    return lock.has_lock(os.getpid(), _path(evidence, dry_run=False))


def owner(evidence: Path, *, dry_run: bool = False) -> str:
    """Return the purpose of the run of ours that has the lock; empty if there is none."""
    return str(_read_signature(_path(evidence, dry_run=dry_run)).get("purpose", ""))


def is_owned(evidence: Path, *, dry_run: bool = False) -> bool:
    """Return whether a run of ours has the lock. One whose signature no disk took is known by its command line."""
    if owner(evidence, dry_run=dry_run):
        return True
    path = _path(evidence, dry_run=dry_run)
    run = _taker(path)
    return run is not None and run.user in _find_trusted_accounts(path.parent) and runs_ours(run)


def at_work(evidence: Path) -> bool:
    """Return whether a run of our own account works on the workload, even if no disk took its name."""
    return owner_of(evidence) is not None


def owner_of(evidence: Path) -> Process | None:
    """Return the run of our own account that works on the workload; None if there is none."""
    run = _taker(_path(evidence, dry_run=False))
    return run if run and run.user == os.geteuid() else None


def _taker(path: Path) -> Process | None:
    """Return the living process that took the lock."""
    run = lock.taker(path) if _is_believed(path) else None
    return run if run and run.alive else None


def _is_believed(path: Path) -> bool:
    """Return whether only accounts whose runs count can have written the lock file."""
    with suppress(OSError):
        return _is_of(path.lstat(), _find_trusted_accounts(path.parent))
    return False


def incident_at_work(evidence: Path) -> str:
    """Return the incident that an evacuation works on now; empty if none is open yet."""
    signed = _read_signature(_path(evidence, dry_run=False))
    return known_id(signed.get("incident")) if signed.get("purpose") == "evacuation" else ""


def _read_signature(path: Path) -> dict[str, Any]:
    """Return what the owner has written about itself, if it is a living run of ours and has the lock."""
    try:
        signed = json.loads(read_plain(path)) if _is_believed(path) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    identity = Identity.of(signed)
    process = get_process(identity) if identity else None
    ours = process and process.alive and process.user in _find_trusted_accounts(path.parent) and "purpose" in signed
    return dict(signed) if process and ours and lock.has_lock(process.pid, path) else {}


def _find_trusted_accounts(evidence: Path) -> set[int]:
    """Return the accounts whose runs count."""
    with suppress(OSError):
        open_to_others = find_exposure(evidence.parent / OWNER)  # a name that is not there: who could take it?
        own = set() if open_to_others else {evidence.lstat().st_uid} - {evidence.parent.stat().st_uid}
        return {0, os.geteuid(), *own}
    return {0, os.geteuid()}


def _path(evidence: Path, *, dry_run: bool) -> Path:
    return evidence / (REHEARSAL if dry_run else OWNER)


def sign(descriptor: int, purpose: Purpose, incident: str = "") -> None:
    """Write into the lock file who has it, and for which incident. A full disk is ignored."""
    with suppress(OSError):
        os.fchmod(descriptor, 0o644)  # a run of another account has to read it
        me = {"purpose": purpose, "incident": incident, "pid": os.getpid(), "start": start_of(os.getpid())}
        content = json.dumps(me).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
