"""§1: test the cordon by a real launch of the workload's start command. It must be refused or caught.

See docs/adr/0010.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Final

from tasks.acquisition.matching import find_names
from tasks.containment.cordon import caught, cordon_state
from tasks.containment.silence import not_counting
from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.identity import Identity
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact_command
from tasks.host.host import Host, send_signal
from tasks.host.process.process import family
from tasks.host.process.table import variable_of
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.accounts import clean_environment
from tasks.system.declarations import account_for

_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_CAUGHT_SECONDS: Final = 3.0
_GONE_SECONDS: Final = 10.0
_MARK: Final = "EVACUATION_TRIAL"
"""Environment variable of the launch: when it was tried."""


@step("challenge", "check: a launch is caught", section="§1", ja="起動の阻止", retries=0)
def challenge(context: RunContext) -> Challenge:
    """Launch the training as its account, see whether it is refused or caught, and end what is left (runbook §1).

    Skipped if no cordon stands, no command is named, or under policy kill, which is for compromised hosts.

    Not retried: each try starts the training in earnest, and one that went wrong may have left something of it.
    """
    if reason := _not_now(context):
        return Challenge(datetime.now(UTC), skipped=reason)
    before = _empty_logs(context)
    began = datetime.now(UTC)
    with not_counting(context):
        try:
            started = _launch(context, began)
        except Refused as error:
            return Challenge(began, skipped=f"expected {error.expected}; got {error.got}")
        if started is None:
            return Challenge(began, skipped="this is a rehearsal; a real run expects the launch refused or caught")
        try:
            result = _fate(context, started, began)
        finally:
            _end(context.adapters.host, started)
    command, new_logs = redact_command(context.workload.training_command), _empty_logs(context) - before
    context.log.write("challenged", str(started.pid), command=command, result=result.summary, left=sorted(new_logs))
    message = f"empty logs appeared in the workload while a launch was tried: {', '.join(sorted(new_logs))}"
    return replace(result, warnings=(*result.warnings, *([message] if new_logs else [])))


def _empty_logs(context: RunContext) -> frozenset[str]:
    """Return the workload's empty log files. A refused launcher may leave one; we remove nothing from the workload."""
    names, _ = find_names(os.fsencode(context.directory.root), context.workload.logs)
    return frozenset(quote(name) for name in names if _is_empty(Path(context.directory.root, os.fsdecode(name))))


def _is_empty(path: Path) -> bool:
    with suppress(OSError):
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and not status.st_size
    return False


def _not_now(context: RunContext) -> str:
    if not context.workload.training_command:
        return "the workload block names no training_command"
    if context.run.policy == "kill":
        return "nothing of a compromised workload is run"
    state = cordon_state(context)
    return "" if state.held else state.summary


def _launch(context: RunContext, began: datetime) -> Identity | None:
    block = context.workload
    owner = account_for(block, block.root.stat().st_uid)
    log = context.directory.path / "challenge.log"
    environment = {**clean_environment(owner), _MARK: began.isoformat()}
    return context.adapters.host.start(block.training_command, block.root, log, owner, environment)


def _fate(context: RunContext, started: Identity, began: datetime) -> Challenge:
    """Wait until the launch is refused or caught. One that ends by itself for another reason proves nothing."""
    deadline = time.monotonic() + _SECONDS
    ended: float | None = None
    while time.monotonic() < deadline and (ended is None or time.monotonic() < ended + _CAUGHT_SECONDS):
        context.cancelled.check()
        code = context.adapters.host.exit_code(started)
        if code in context.workload.training_refused:
            return Challenge(datetime.now(UTC), caught=f"the launcher was refused and ended with {code}")
        if pid := _frozen_of(context.adapters.host, started) or _find_detached(context, started, began):
            return Challenge(datetime.now(UTC), caught=f"the guard froze process {pid}")
        if code is not None and ended is None:
            ended = time.monotonic()
        time.sleep(_POLL_SECONDS)
    code = context.adapters.host.exit_code(started)
    refused = ", ".join(map(str, context.workload.training_refused))
    why = f"the launcher ended with {code} by itself, which is none of {refused} (training_refused): nothing is proven"
    others = ", ".join(str(identity.pid) for identity in _caught_since(context, started, began))
    if code == 0 and others and not _at_large(context.adapters.host, started, began):
        message = (
            f"the launcher left the start to another program and ended with 0, and the guard froze process {others}"
        )
        return Challenge(datetime.now(UTC), caught=message)
    message = f"caught while a launch was tried, but not known to come of it: process {others}"
    return Challenge(datetime.now(UTC), skipped=why if code else "", warnings=(message,) if others else ())


def _find_detached(context: RunContext, started: Identity, began: datetime) -> int | None:
    """Return the pid of a process that the launcher has detached and the guard has caught.

    It has the launch's mark in its environment or, where that is cleared or may not be read, is of its session. What
    cron or a supervisor starts meanwhile has neither, and proves nothing.
    """
    for identity in _caught_since(context, started, began):
        marked = variable_of(identity.pid, _MARK) == began.isoformat()
        process = context.adapters.host.get_process(identity)  # after that, because a pid is reused
        if process and (marked or process.session == started.pid):
            return identity.pid
    return None


def _at_large(host: Host, started: Identity, began: datetime) -> bool:
    """Return whether something of the launch, by its mark, is at work; or may be, as its mark is not readable."""
    younger = (process for process in host.snapshot().values() if process.identity.start >= started.start)
    at_work = [process.pid for process in younger if process.alive and not process.is_stopped]
    return any(variable_of(pid, _MARK) in {began.isoformat(), None} for pid in at_work)


def _caught_since(context: RunContext, started: Identity, began: datetime) -> Iterator[Identity]:
    """Yield what the guard has caught since that is no older than the launch."""
    for row in caught(context.cordon_files, began):
        if (identity := Identity.of(row)) and identity.start >= started.start and not row.get("killed"):
            yield identity


def _frozen_of(host: Host, started: Identity) -> int | None:
    snapshot = host.snapshot()
    return next((pid for pid in sorted(family(snapshot, {started})) if snapshot[pid].is_stopped), None)


def _end(host: Host, started: Identity) -> None:
    """End the launch. Freezes it first, until a look finds no new child, so that no orphan is missed."""
    everyone: set[Identity] = set()
    while new := _kin(host, started) - everyone:
        for identity in new:
            send_signal(host, identity, SIGSTOP)
        everyone |= new
    for identity in everyone:
        send_signal(host, identity, SIGKILL)
    host.wait_gone(everyone, _GONE_SECONDS)


def _kin(host: Host, started: Identity) -> set[Identity]:
    snapshot = host.snapshot()
    return {snapshot[pid].identity for pid in family(snapshot, {started}) if snapshot[pid].alive}
