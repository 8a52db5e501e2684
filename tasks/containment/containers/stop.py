"""§3 for containers: end them, with a receipt for each."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from tasks.collectors.tree import read_writing
from tasks.containment.containers.last_words import LastWords
from tasks.custody.containment.receipt import End, FrozenContainer, StoppedContainer
from tasks.custody.errors import ContainerGone, EngineError
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.last_write import LastWrite
from tasks.host.container.membership import Container, gentle_signal_of
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, stopped_containers
from tasks.runtime.state import IncidentState
from tasks.system.cancellation import run_in_thread
from tasks.system.polling import poll_until

_KILL_SECONDS: Final = 10.0
_AT_ONCE: Final = 8
_SIGKILL: Final = "SIGKILL"
_REMOVAL_SECONDS: Final = 5.0
_UNHEARD: Final = (
    "it ran {seconds} s after its files were taken, and what it wrote and printed then went with it (--rm): policy="
    "kill lets it write nothing; started without --rm it keeps it 停止中の書き込みは不明"
)


def stop_containers(context: RunContext) -> tuple[StoppedContainer, ...]:
    """End all paused containers in parallel. Those that an earlier run has ended keep their receipts."""
    state, earlier = context.state, stopped_containers(context.state)
    remaining = {identity: each for identity, each in frozen_containers(state).items() if identity not in earlier}
    begun = set(state.stopping_containers.read())
    if remaining:
        state.stopping_containers.write(list(remaining))
    gently = context.run.policy == "graceful"
    stopping = [StoppingContainer(context, each, begun=identity in begun) for identity, each in remaining.items()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        stops = [pool.submit(each.stop, gently=gently) for each in stopping]
    fresh = [each.result() for each in stops]
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    _forget_mapped(state, stopping)
    if ends := [write for each in stopping for write in each.writes]:
        state.container_ends.write([*state.container_ends.read(), *ends])
    state.stopped_containers.write([receipt for receipt in receipts if receipt.end is not End.SURVIVED])
    if remaining:
        state.stopping_containers.write([])
    for each, ended in zip(fresh, stopping, strict=True):
        details = {"signals": [name for name, _ in each.signals], "removed": each.removed, "reason": each.reason}
        details |= _describe_run(each) | ({"writing": ended.writing} if ended.writing else {})
        context.log.write("stopped", each.identity.id, end=each.end, exit_code=each.exit_code, **details)
    return tuple(receipts)


def _forget_mapped(state: IncidentState, stopping: Iterable["StoppingContainer"]) -> None:
    """Have what a container had mapped taken again: its size and time need not tell that it was written since."""
    copies = state.container_copies.read()
    rows = ((each.frozen.name, row["to"]) for each in stopping for row in each.writing if row.get("mapped"))
    if mapped := {f"{name}:{quote(os.fsencode(path))}" for name, path in rows} & copies.keys():
        state.container_copies.write({**copies, **{key: (copies[key][0], -1, 0) for key in mapped}})


def _describe_run(stopped: StoppedContainer) -> dict[str, object]:
    """Return how long it ran after it was asked to end, and until when; empty if it was killed where it stood."""
    since = next((at for name, at in stopped.signals[:1] if name != _SIGKILL), None)
    until = stopped.gone_at or datetime.now(UTC)
    return {"ran_s": round((until - since).total_seconds(), 3), "ran_until": until.isoformat()} if since else {}


class StoppingContainer:
    """The end of one container, in progress."""

    def __init__(self, context: RunContext, frozen: FrozenContainer, *, begun: bool = False) -> None:
        """Begin without any signal sent by this run.

        `begun` says that a run that died was about to end it, so that its end was not its own.
        """
        self.host, self.engine, self.frozen, self.begun = context.adapters.host, context.adapters.engine, frozen, begun
        self.grace_seconds, self.cancelled = context.workload.grace_seconds, context.cancelled
        self.root, self.dry_run = context.workload.root, context.run.dry_run
        self.words: LastWords | None = None
        self.writes: list[LastWrite] = []
        self.writing: list[dict[str, Any]] = []
        self.id = frozen.identity.id
        self.sent: list[tuple[str, datetime]] = []
        self.ended, self.removed, self.reason = False, False, ""
        self.exit_code: int | None = None
        self.gone_at: datetime | None = None

    def stop(self, *, gently: bool) -> StoppedContainer:
        """End it, and return the receipt. If the engine fails, that says SURVIVED, with the reason."""
        try:
            self._end(gently=gently)
        except EngineError as error:
            self.reason = str(error)
        if not self.ended:  # the engine may have answered late
            with suppress(EngineError):
                now = self.engine.get_container(self.id)
                if not (now and now.alive and now.identity == self.frozen.identity):
                    self.ended, self.gone_at = True, datetime.now(UTC)
                    self.exit_code = now.exit_code if now else None
        self._note_writes()
        return self.receipt()

    def _end(self, *, gently: bool) -> None:
        """Forbid restarts, queue the stop signal while paused, let the engine thaw, wait the grace, then SIGKILL.

        Not `gently`: SIGKILL is queued at once, so that nothing runs after the thaw.
        """
        container = self.engine.get_container(self.id)
        if container and container.alive and container.identity == self.frozen.identity:
            if container.restart != "no" and not container.auto_remove:
                self.engine.forbid_restart(self.id)
            process = self.host.snapshot().get(container.pid) if gently else None
            masks = process.masks if process and process.container == self.id else None
            if gently and (gentle := gentle_signal_of(container, masks)):
                is_here = masks is not None and container.auto_remove and not self.dry_run
                self.words = self._listen(container) if is_here else None
                self._send(gentle.name, self.grace_seconds)
            if not self.ended and self.cancelled:
                self.engine.pause(self.id)
            elif not self.ended:
                self._send(_SIGKILL, _KILL_SECONDS)
        else:
            self.ended, self.exit_code = True, container.exit_code if container else None
            if self.begun:
                self.reason = "a run that died was stopping it; it ended at an unknown moment (終了時刻は不明)"
        if self.ended:
            poll_until(self._stays_as_it_is, _REMOVAL_SECONDS)

    def _listen(self, container: Container) -> LastWords | None:
        """Listen to one that the engine will remove, after which nothing of it can be read; None if that fails."""
        with suppress(OSError, EngineError):
            return LastWords(self.engine, container, self.root, self.frozen.paused_at or self.frozen.seen_at)
        return None

    def _note_writes(self) -> None:
        """Keep what was heard of one that the engine removes; if nobody listened, that it may have written."""
        ran = _describe_run(self.receipt())
        heard = self.words if self.ended else None
        if heard:
            self.writes += heard.take()
        if self.frozen.auto_remove and not self.dry_run and (self.begun or (ran and not heard)):
            reason = _UNHEARD.format(seconds=ran.get("ran_s", "some"))
            self.writes.append(LastWrite(container=self.frozen.name, reason=reason))
        if self.words:
            self.words.close()

    def _send(self, name: str, seconds: float) -> None:
        """Send a signal and wait for the end. The wait begins first: `docker run --rm` removes the exit code."""
        pids = [each.pid for each in self.host.snapshot().values() if each.container == self.id]
        self.writing += read_writing(pids)  # it stands still, or is killed
        waiting, _ = run_in_thread(lambda: self.engine.end_of(self.id, seconds))
        with suppress(ContainerGone):
            self.engine.signal(self.id, name)
            self.sent.append((name, datetime.now(UTC)))
        self.cancelled.await_end(waiting)
        with suppress(TimeoutError):
            self.exit_code = waiting.result(0)
            self.ended, self.gone_at = True, datetime.now(UTC)

    def _stays_as_it_is(self) -> bool:
        """Return whether the engine has removed it, or will not."""
        there = self.engine.get_container(self.id)
        self.removed = there is None
        return there is None or not there.auto_remove

    def receipt(self, end: End | None = None) -> StoppedContainer:
        """Return what was done, and how the container ended."""
        return StoppedContainer(
            identity=self.frozen.identity,
            name=self.frozen.name,
            image=self.frozen.image,
            signals=tuple(self.sent),
            end=end or self._how(),
            exit_code=self.exit_code,
            gone_at=self.gone_at,
            removed=self.removed,
            reason=self.reason,
        )

    def _how(self) -> End:
        if not self.ended:
            return End.SURVIVED
        if any(name == _SIGKILL for name, _ in self.sent):
            return End.KILLED
        return End.STOPPED if self.sent or self.begun else End.GONE
