"""Who works on a workload at this moment: one run at a time, and nobody who is no run of ours keeps us out."""

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tasks import lock
from tasks.custody.process import Identity
from tasks.marker import read_plain
from tasks.proc import read_process, start_of

Purpose: TypeAlias = Literal["evacuation", "recovery", "release of the cordon"]
OWNER: Final = ".owner"
"""In the evidence folder: the lock of the run that works on the workload, and what for."""
_SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05


def take_ownership(evidence: Path, purpose: Purpose = "evacuation", *, dry_run: bool = False) -> int | None:
    """Lock the workload's evidence folder for this process; None if another one of ours has it.

    A dry run has a lock of its own: a rehearsal must never keep the real one out. A lock that is held by nobody of
    ours (whoever may write to the folder can hold it) is put aside: it must not fend off an evacuation.
    """
    path = _path(evidence, dry_run=dry_run)
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(descriptor, purpose)
            return descriptor
        os.close(descriptor)
        if owner(evidence, dry_run=dry_run):
            return None
        if time.monotonic() > deadline:
            path.unlink(missing_ok=True)
            deadline += _SETTLE_SECONDS
        time.sleep(_POLL_SECONDS)


def owner(evidence: Path, *, dry_run: bool = False) -> str:
    """What the run of ours that has the lock is there for; empty if nobody of ours has it."""
    path = _path(evidence, dry_run=dry_run)
    try:
        signed = json.loads(read_plain(path))
        identity, purpose = Identity(int(signed["pid"]), int(signed["start"])), str(signed["purpose"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    process = read_process(identity.pid)
    ours = process and process.identity == identity and process.alive and process.user == os.geteuid()
    return purpose if ours and lock.holds(identity.pid, path) else ""


def _path(evidence: Path, *, dry_run: bool) -> Path:
    return evidence / (".rehearsal" if dry_run else OWNER)


def _sign(descriptor: int, purpose: Purpose) -> None:
    """Say who we are. A disk that takes nothing keeps nobody from evacuating."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        me = {"purpose": purpose, "pid": os.getpid(), "start": start_of(os.getpid())}
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
