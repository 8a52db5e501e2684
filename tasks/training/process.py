"""Run a training under the lock: follow its output; end its process tree by signal, grace and SIGKILL."""

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.errors import Refused
from tasks.host.detached_process import start_as
from tasks.host.host import LinuxHost, send_signal
from tasks.host.process.process import family, gentle_signal
from tasks.host.process.table import start_of
from tasks.system.accounts import clean_environment
from tasks.system.declarations import account_for
from tasks.system.priority import give_way
from tasks.training.log_lines import Lines, RateLimitedLog, readable

logger = logging.getLogger(__name__)

_CHUNK: Final = 1 << 16
_DRAIN_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = 10.0
_KILL_SECONDS: Final = 1.0
_KILL_ROUNDS: Final = 10
_SHOWN: Final = 500


@dataclass(frozen=True)
class Ended:
    """How a training ended: exit code (negative: the signal), last lines, and what it left running."""

    identity: Identity
    code: int
    last: tuple[str, ...]
    still_running: tuple[int, ...]

    @property
    def summary(self) -> str:
        """Exit code or signal, and the processes left running."""
        how = f"exit code {self.code}" if self.code >= 0 else f"signal {signal.Signals(-self.code).name}"
        running = f"; still running: {', '.join(map(str, self.still_running))}" if self.still_running else ""
        return f"training {self.identity.pid} ended with {how}{running}"


class Training:
    """A training run's process tree. It holds the lock, and is ended on leaving the `with` block if it still runs."""

    def __init__(self, workload: Workload, descriptor: int, environment: Mapping[str, str]) -> None:
        """Start the training as the workload's account; the lock `descriptor` passes to its process tree."""
        self._host = LinuxHost()
        try:
            self._process = self._start(workload, descriptor, environment)
        finally:
            os.close(descriptor)
        self.identity = Identity(self._process.pid, start_of(self._process.pid))

    @staticmethod
    def _start(workload: Workload, descriptor: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        owner = account_for(workload, workload.root.stat().st_uid, environment)
        give_way()  # the worker runs at raised priority; training must not
        command, variables = workload.training_command, {**clean_environment(owner), **environment}
        orders = {"command": command, "root": workload.root, "user": owner, "environment": variables}
        try:
            return start_as(orders, "training", subprocess.PIPE, [descriptor])[0]
        except (OSError, ValueError) as error:
            raise Refused(
                f"to be able to start {command[0]} in {workload.root}",
                str(error),
                "Correct training_command in the workload block, or the environment of this run.",
            ) from error

    def __enter__(self) -> Self:
        """Return the running training."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process tree if the block is left before the training has ended, as at a cancellation."""
        del error, trace
        if kind:
            self.end()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
        if self._process.stdout:
            self._process.stdout.close()

    def follow(self, tell: Callable[[str], None]) -> Ended:
        """Pass the output on, line by line, until the training has ended."""
        lines, log = Lines(), RateLimitedLog(tell)
        for data in self._output():
            for line in lines.feed(data):
                log(line)
        for line in lines.rest():
            log(line)
        log.report_skipped()
        code = self._process.wait()
        last = tuple(readable(line, tuple(log.last)[:place])[:_SHOWN] for place, line in enumerate(log.last))
        return Ended(self.identity, code, last, tuple(sorted(identity.pid for identity in self._family())))

    def _output(self) -> Iterator[bytes]:
        """Yield output until the training ends, then what is left in the pipe, which orphans may hold open for ever."""
        pipe, end = self._process.stdout.fileno(), os.pidfd_open(self._process.pid)  # type: ignore[union-attr]
        os.set_blocking(pipe, False)
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(end, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if pipe in ready:
                    data = os.read(pipe, _CHUNK)
                    if data:
                        yield data
                    else:
                        poll.unregister(pipe)
                if end in ready:
                    break
        finally:
            os.close(end)
        deadline = time.monotonic() + _DRAIN_SECONDS
        with suppress(BlockingIOError):
            while time.monotonic() < deadline and (data := os.read(pipe, _CHUNK)):
                yield data

    def _family(self) -> frozenset[Identity]:
        """Return the live processes of the training: descendants, and all in its session."""
        snapshot = self._host.snapshot()
        pids = family(snapshot, {self.identity})
        pids |= {pid for pid, each in snapshot.items() if each.session == self.identity.pid}
        return frozenset(snapshot[pid].identity for pid in pids if snapshot[pid].alive)

    def end(self) -> None:
        """Send each process the signal that it heeds, wait a grace, then SIGKILL until none is left."""
        for identity in (family := self._family()):
            process = self._host.get_process(identity)
            if process and (gentle := gentle_signal(process.masks)):
                self._send(identity, gentle)
        self._host.wait_gone(family, _GRACE_SECONDS)
        for _ in range(_KILL_ROUNDS):
            if not (family := self._family()):
                return
            for identity in family:
                self._send(identity, signal.SIGKILL)
            self._host.wait_gone(family, _KILL_SECONDS)
        logger.error("Of the training %s still run: %s", self.identity.pid, sorted(identity.pid for identity in family))

    def _send(self, identity: Identity, number: signal.Signals) -> None:
        if send_signal(self._host, identity, number):
            logger.error("%s to %s was denied", number.name, identity.pid)
