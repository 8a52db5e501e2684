"""§1: prove the cordon by a real launch of the workload's start command. It must be refused or caught."""

import os
import stat
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Final

from tasks.adapters.host import Host, send_signal
from tasks.collectors.matching import found
from tasks.containment.cordon import caught, cordon_state
from tasks.custody.containment.process import Identity, family
from tasks.custody.containment.receipt import Challenge
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact_command
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.accounts import clean_environment

_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_CAUGHT_SECONDS: Final = 3.0
_GONE_SECONDS: Final = 10.0


@step("§1", "challenge", "check: a launch is caught", "起動の阻止")
def challenge(context: RunContext) -> Challenge:
    """Launch the training as its people do, as its owner, see what becomes of it, and end what is left (runbook §1).

    Not done where it would do harm: no cordon stands, the host is compromised (policy kill), or no command is named.
    """
    if reason := _not_now(context):
        return Challenge(datetime.now(UTC), skipped=reason)
    before = _empty_logs(context)
    began, started = datetime.now(UTC), _launch(context)
    if started is None:
        return Challenge(began, skipped="this is a rehearsal; a real run expects the launch refused or caught")
    try:
        made = _fate(context, started, began)
    finally:
        _end(context.adapters.host, started)
    command, left = redact_command(context.workload.training_command), _empty_logs(context) - before
    context.log.write("challenged", str(started.pid), command=command, result=made.summary, left=sorted(left))
    told = f"empty logs appeared in the workload while a launch was tried: {', '.join(sorted(left))}"
    return replace(made, warnings=(told,) if left else ())


def _empty_logs(context: RunContext) -> frozenset[str]:
    """What a launcher leaves that makes its log and is refused. It lies in the workload, where we remove nothing."""
    names, _ = found(os.fsencode(context.directory.root), context.workload.logs)
    return frozenset(quote(name) for name in names if _is_empty(Path(context.directory.root, os.fsdecode(name))))


def _is_empty(path: Path) -> bool:
    with suppress(OSError):
        about = path.lstat()
        return stat.S_ISREG(about.st_mode) and not about.st_size
    return False


def _not_now(context: RunContext) -> str:
    if not context.workload.training_command:
        return "the workload block names no training_command"
    if context.run.policy == "kill":
        return "nothing of a compromised workload is run"
    if context.state.recovered.read():
        return "the cordon was released by this incident's own recovery"
    state = cordon_state(context)
    return "" if state.held else state.summary


def _launch(context: RunContext) -> Identity | None:
    block = context.workload
    owner = block.root.stat().st_uid
    log = context.directory.path / "challenge.log"
    return context.adapters.host.start(block.training_command, block.root, log, owner, clean_environment(owner))


def _fate(context: RunContext, started: Identity, began: datetime) -> Challenge:
    """What stopped the launch. One that ended by itself, for another reason than the lock, has proven nothing."""
    deadline = time.monotonic() + _SECONDS
    ended: float | None = None
    while time.monotonic() < deadline and (ended is None or time.monotonic() < ended + _CAUGHT_SECONDS):
        context.cancelled.check()
        code = context.adapters.host.exit_code(started)
        if code in context.workload.training_refused:
            return Challenge(datetime.now(UTC), caught=f"the launcher was refused and ended with {code}")
        if pid := _frozen_of(context.adapters.host, started) or _caught_since(context, began):
            return Challenge(datetime.now(UTC), caught=f"the guard froze process {pid}")
        if code is not None and ended is None:
            ended = time.monotonic()
        time.sleep(_POLL_SECONDS)
    code = context.adapters.host.exit_code(started)
    refused = ", ".join(map(str, context.workload.training_refused))
    why = f"the launcher ended with {code} by itself, which is none of {refused} (training_refused): nothing is proven"
    return Challenge(datetime.now(UTC), skipped=why if code else "")


def _caught_since(context: RunContext, began: datetime) -> int | None:
    """A launcher may detach what it starts: whom the guard has caught since then counts."""
    since = began.isoformat()
    found = (
        entry["identity"]["pid"]
        for entry in caught(context.cordon_files, context.incident.opened_at)
        if str(entry.get("at", "")) >= since and "identity" in entry
    )
    return next(found, None)


def _frozen_of(host: Host, started: Identity) -> int | None:
    snapshot = host.snapshot()
    return next((pid for pid in sorted(family(snapshot, {started})) if snapshot[pid].stopped), None)


def _end(host: Host, started: Identity) -> None:
    """End all of it: frozen first, again until a look finds no new child, so that none is orphaned and missed."""
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
