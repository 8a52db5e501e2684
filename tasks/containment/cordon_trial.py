"""§1: test the cordon by a real launch of the workload's start command. It must be refused or caught.

See docs/adr/0010.
"""

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from signal import SIGKILL, SIGSTOP
from typing import Final

from blocks.workload import Workload
from tasks.acquisition.matching import find_names
from tasks.containment.cordon import IncidentCordon, caught
from tasks.containment.silence import not_counting
from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.identity import Identity
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact_command
from tasks.host.host import Host, send_signal
from tasks.host.process.process import family
from tasks.host.process.table import variable_of
from tasks.incident.paths import CordonFiles
from tasks.runtime.context import Policy, RunContext
from tasks.runtime.step import step
from tasks.system.accounts import clean_environment
from tasks.system.cancellation import Cancellation
from tasks.system.declarations import account_for
from tasks.system.polling import poll_until

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
    host, block, root = context.adapters.host, context.workload, context.directory.root
    if reason := _not_now(block, context.run.policy, IncidentCordon(context)):
        return Challenge(datetime.now(UTC), skipped=reason)
    before, began = _empty_logs(root, block.logs), datetime.now(UTC)
    with not_counting(context.listening):
        try:
            owner, log = account_for(block, block.root.stat().st_uid), context.directory.path / "challenge.log"
            environment = {**clean_environment(owner), _MARK: began.isoformat()}
            started = host.start(block.training_command, block.root, log, owner, environment)
        except Refused as error:
            return Challenge(began, skipped=f"expected {error.expected}; got {error.got}")
        if started is None:
            return Challenge(began, skipped="this is a rehearsal; a real run expects the launch refused or caught")
        launch = Launch(host, context.cordon_files, block.training_refused, started, began)
        try:
            result = launch.await_fate(context.cancelled)
        finally:
            launch.end()
    command, new_logs = redact_command(block.training_command), _empty_logs(root, block.logs) - before
    context.log.write("challenged", str(started.pid), command=command, result=result.summary, left=sorted(new_logs))
    message = f"empty logs appeared in the workload while a launch was tried: {', '.join(sorted(new_logs))}"
    return replace(result, warnings=(*result.warnings, *([message] if new_logs else [])))


def _empty_logs(root: PurePath, patterns: Sequence[str]) -> frozenset[str]:
    """Return the workload's empty log files. A refused launcher may leave one; we remove nothing from the workload."""
    names, found = find_names(os.fsencode(root), patterns)[0], set[str]()
    for name in names:
        with suppress(OSError):
            status = Path(root, os.fsdecode(name)).lstat()
            if stat.S_ISREG(status.st_mode) and not status.st_size:
                found.add(quote(name))
    return frozenset(found)


def _not_now(block: Workload, policy: Policy, cordon: IncidentCordon) -> str:
    if not block.training_command:
        return "the workload block names no training_command"
    if policy == "kill":
        return "nothing of a compromised workload is run"
    return "" if (now := cordon.look()).held else now.summary


@dataclass(frozen=True)
class Launch:
    """A start of the training that the cordon has to refuse, by one of the exit codes `refused`, or to catch."""

    host: Host
    files: CordonFiles
    refused: Collection[int]
    started: Identity
    began: datetime

    def await_fate(self, cancelled: Cancellation) -> Challenge:
        """Wait until it is refused or caught. One that ends by itself for another reason proves nothing."""

        def find_proof() -> str:
            cancelled.check()
            if (code := self._code) in self.refused:
                return f"the launcher was refused and ended with {code}"
            snapshot = self.host.snapshot()
            frozen = (pid for pid in sorted(family(snapshot, {self.started})) if snapshot[pid].is_stopped)
            pid = next(frozen, None) or self._find_detached()
            return f"the guard froze process {pid}" if pid else ""

        found = poll_until(lambda: find_proof() or self._code is not None, _SECONDS, _POLL_SECONDS)
        if proof := poll_until(find_proof, _CAUGHT_SECONDS, _POLL_SECONDS) if found is True else found:
            return Challenge(datetime.now(UTC), caught=str(proof))
        code, others = self._code, ", ".join(str(identity.pid) for identity in self._find_caught())
        if code == 0 and others and not _at_large(self.host, self.started, self.began):
            proof = "the launcher left the start to another program and ended with 0, and the guard froze process"
            return Challenge(datetime.now(UTC), caught=f"{proof} {others}")
        named = f"none of {', '.join(map(str, self.refused))} (training_refused)"
        why = f"the launcher ended with {code} by itself, which is {named}: nothing is proven"
        message = f"caught while a launch was tried, but not known to come of it: process {others}"
        return Challenge(datetime.now(UTC), skipped=why if code else "", warnings=(message,) if others else ())

    @property
    def _code(self) -> int | None:
        return self.host.exit_code(self.started)

    def _find_detached(self) -> int | None:
        """Return the pid of a process that the launcher has detached and the guard has caught.

        It has the launch's mark in its environment or, where that is cleared or may not be read, is of its session.
        What cron or a supervisor starts meanwhile has neither, and proves nothing.
        """
        for identity in self._find_caught():
            marked = variable_of(identity.pid, _MARK) == self.began.isoformat()
            process = self.host.get_process(identity)  # after that, because a pid is reused
            if process and (marked or process.session == self.started.pid):
                return identity.pid
        return None

    def _find_caught(self) -> Iterator[Identity]:
        """Yield what the guard has caught since that is no older than the launch."""
        for row in caught(self.files, self.began):
            if (identity := Identity.of(row)) and identity.start >= self.started.start and not row.get("killed"):
                yield identity

    def end(self) -> None:
        """End all of it. Freezes it first, until a look finds no new child, so that no orphan is missed."""
        everyone: set[Identity] = set()
        while new := self._find_living() - everyone:
            for identity in new:
                send_signal(self.host, identity, SIGSTOP)
            everyone |= new
        for identity in everyone:
            send_signal(self.host, identity, SIGKILL)
        self.host.wait_gone(everyone, _GONE_SECONDS)

    def _find_living(self) -> set[Identity]:
        snapshot = self.host.snapshot()
        return {snapshot[pid].identity for pid in family(snapshot, {self.started}) if snapshot[pid].alive}


def _at_large(host: Host, started: Identity, began: datetime) -> bool:
    """Return whether something of the launch, by its mark, is at work; or may be, as its mark is not readable."""
    younger = (process for process in host.snapshot().values() if process.identity.start >= started.start)
    at_work = [process.pid for process in younger if process.alive and not process.is_stopped]
    return any(variable_of(pid, _MARK) in {began.isoformat(), None} for pid in at_work)
