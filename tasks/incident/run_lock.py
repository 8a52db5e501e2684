"""Let one run at a time work on a workload (.owner), and nobody who is no run of ours keep us out.

A run of root counts for everybody. That of another account counts only where the evidence folder is its own and what
the folder lies in is not: else it may be the workload's account, which must not fend off an evacuation.
"""

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tasks.custody.containment.process import Identity
from tasks.incident.layout import OWNER, REHEARSAL
from tasks.system import file_lock as lock
from tasks.system.atomic_files import read_plain
from tasks.system.processes import get_process, start_of

Purpose: TypeAlias = Literal["evacuation", "recovery", "release of the cordon", "thaw"]
_SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05
_kept: Final[dict[Path, int]] = {}


def take_ownership(evidence: Path, purpose: Purpose = "evacuation", *, dry_run: bool = False) -> int | None:
    """Lock the workload's evidence folder for this process; None if another one of ours has it.

    A dry run has a lock of its own: a rehearsal must never keep the real one out. A lock that is held by nobody of
    ours (whoever may write to the folder can hold it) is put aside: it must not fend off an evacuation.
    """
    path = _path(evidence, dry_run=dry_run)
    if (kept := _kept.pop(path, None)) is not None:
        sign(kept, purpose)
        return kept
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        if (descriptor := _locked(path)) is not None:
            sign(descriptor, purpose)
            return descriptor
        if owner(evidence, dry_run=dry_run):
            return None
        if time.monotonic() > deadline:
            path.unlink(missing_ok=True)
            deadline += _SETTLE_SECONDS
        time.sleep(_POLL_SECONDS)


def _locked(path: Path) -> int | None:
    """The locked file, if it still lies at the path: another may have put it aside. None if it is not to be had."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except PermissionError:  # of another account: it may be at work, or have left it
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock.has_lock(os.getpid(), path):
            return descriptor
    os.close(descriptor)
    return None


def keep_ownership(evidence: Path, descriptor: int) -> None:
    """Keep the lock for this same process's next `take_ownership`: in between nobody else can open an incident."""
    _kept[_path(evidence, dry_run=False)] = descriptor


def give_up_ownership(evidence: Path) -> None:
    """Let go of what was kept and never taken: the run was refused before it opened an incident."""
    if (kept := _kept.pop(_path(evidence, dry_run=False), None)) is not None:
        os.close(kept)


def owner(evidence: Path, *, dry_run: bool = False) -> str:
    """What the run of ours that has the lock is there for; empty if nobody of ours has it."""
    return str(_signed(_path(evidence, dry_run=dry_run)).get("purpose", ""))


def at_work(evidence: Path) -> bool:
    """Tell whether a run of our own account works on the workload, also one whose signature no disk has taken."""
    path = _path(evidence, dry_run=False)
    run = None if path.is_symlink() else lock.taker(path)
    return run is not None and run.alive and run.user == os.geteuid()


def incident_at_work(evidence: Path) -> str:
    """The incident that an evacuation has opened and works on now; empty if there is none yet."""
    signed = _signed(_path(evidence, dry_run=False))
    return str(signed.get("incident", "")) if signed.get("purpose") == "evacuation" else ""


def _signed(path: Path) -> dict[str, Any]:
    """What the owner has said of itself, if it is a living run of ours and has the lock."""
    try:
        signed = json.loads(read_plain(path))
    except (OSError, ValueError):
        return {}
    identity = Identity.of(signed)
    process = get_process(identity) if identity else None
    ours = process and process.alive and process.user in _trusted(path.parent) and "purpose" in signed
    return dict(signed) if process and ours and lock.has_lock(process.pid, path) else {}


def _trusted(evidence: Path) -> set[int]:
    """Accounts whose runs count."""
    with suppress(OSError):
        return {0, os.geteuid(), *({evidence.stat().st_uid} - {evidence.parent.stat().st_uid})}
    return {0, os.geteuid()}


def _path(evidence: Path, *, dry_run: bool) -> Path:
    return evidence / (REHEARSAL if dry_run else OWNER)


def sign(descriptor: int, purpose: Purpose, incident: str = "") -> None:
    """Say who we are, and for which incident. A disk that takes nothing keeps nobody from evacuating."""
    with suppress(OSError):
        os.fchmod(descriptor, 0o644)  # a run of another account reads who we are
        me = {"purpose": purpose, "incident": incident, "pid": os.getpid(), "start": start_of(os.getpid())}
        said = json.dumps(me).encode()
        os.pwrite(descriptor, said, 0)
        os.ftruncate(descriptor, len(said))
