"""§3 for containers: end them, with a receipt for each."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Final

from tasks.custody.containment.receipt import End, FrozenContainer, StoppedContainer
from tasks.custody.errors import ContainerGone, EngineError
from tasks.host.container.membership import Container, gentle_signal_of
from tasks.host.process.process import Masks
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, stopped_containers
from tasks.system.cancellation import run_in_thread

_KILL_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_AT_ONCE: Final = 8
_SIGKILL: Final = "SIGKILL"


_REMOVAL_SECONDS: Final = 5.0


def stop_containers(context: RunContext) -> tuple[StoppedContainer, ...]:
    """End all paused containers in parallel. Those that an earlier run has ended keep their receipts."""
    earlier = stopped_containers(context.state)
    remaining = {
        identity: each for identity, each in frozen_containers(context.state).items() if identity not in earlier
    }
    begun = set(context.state.stopping_containers.read())
    if remaining:
        context.state.stopping_containers.write(list(remaining))
    gently = context.run.policy == "graceful"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        stops = [
            pool.submit(stop_container, context, remaining[container], gently=gently, begun=container in begun)
            for container in remaining
        ]
    fresh = [each.result() for each in stops]
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    ended = [receipt for receipt in receipts if receipt.end is not End.SURVIVED]
    context.state.stopped_containers.write(ended)
    if remaining:
        context.state.stopping_containers.write([])
    for receipt in fresh:
        details = {
            "signals": [name for name, _ in receipt.signals],
            "removed": receipt.removed,
            "reason": receipt.reason,
        }
        context.log.write("stopped", receipt.identity.id, end=receipt.end, exit_code=receipt.exit_code, **details)
    return tuple(receipts)


def stop_container(
    context: RunContext, frozen: FrozenContainer, *, gently: bool, begun: bool = False
) -> StoppedContainer:
    """End one container. If the engine fails, its receipt says SURVIVED, with the reason.

    `begun` says that a run that died was about to end it, so that its end was not its own.
    """
    stopping = StoppingContainer(context, frozen, begun=begun)
    try:
        stopping.end(gently=gently)
    except EngineError as error:
        stopping.reason = str(error)
    stopping.look_once_more()
    return stopping.receipt()


class StoppingContainer:
    """The end of one container, in progress."""

    def __init__(self, context: RunContext, frozen: FrozenContainer, *, begun: bool = False) -> None:
        """Begin without any signal sent by this run."""
        self.begun = begun
        self.context, self.engine, self.frozen = context, context.adapters.engine, frozen
        self.id = frozen.identity.id
        self.sent: list[tuple[str, datetime]] = []
        self.ended, self.removed, self.reason = False, False, ""
        self.exit_code: int | None = None
        self.gone_at: datetime | None = None

    def end(self, *, gently: bool) -> None:
        """Forbid restarts, queue the stop signal while paused, let the engine thaw, wait the grace, then SIGKILL.

        Not `gently`: SIGKILL is queued at once, so that nothing runs after the thaw.
        """
        container = self.engine.get_container(self.id)
        if container and container.alive and container.identity == self.frozen.identity:
            if container.restart != "no" and not container.auto_remove:
                self.engine.forbid_restart(self.id)
            gentle = gentle_signal_of(container, self._masks(container)) if gently else None
            if gentle:
                self._send(gentle.name, self.context.workload.grace_seconds)
            if not self.ended and self.context.cancelled:
                self.engine.pause(self.id)
            elif not self.ended:
                self._send(_SIGKILL, _KILL_SECONDS)
        else:
            self.ended, self.exit_code = True, container.exit_code if container else None
            if self.begun:
                self.reason = "a run that died was stopping it; it ended at an unknown moment (終了時刻は不明)"
        if self.ended:
            self.removed = self._await_removal()

    def _masks(self, container: Container) -> Masks | None:
        process = self.context.adapters.host.snapshot().get(container.pid)
        return process.masks if process and process.container == self.id else None

    def _send(self, name: str, seconds: float) -> None:
        """Send a signal and wait for the end. The wait begins first: `docker run --rm` removes the exit code."""
        waiting, _ = run_in_thread(lambda: self.engine.end_of(self.id, seconds))
        try:
            self.engine.signal(self.id, name)
            self.sent.append((name, datetime.now(UTC)))
        except ContainerGone:
            pass
        while not waiting.done() and not self.context.cancelled:
            wait([waiting], _POLL_SECONDS)
        try:
            self.exit_code = waiting.result(0)
        except TimeoutError:
            return
        self.ended, self.gone_at = True, datetime.now(UTC)

    def look_once_more(self) -> None:
        """Look whether the container lives, after an engine that answered late."""
        if self.ended:
            return
        try:
            now = self.engine.get_container(self.id)
        except EngineError:
            return
        if not (now and now.alive and now.identity == self.frozen.identity):
            self.ended, self.gone_at = True, datetime.now(UTC)
            self.exit_code = now.exit_code if now else None

    def _await_removal(self) -> bool:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while (there := self.engine.get_container(self.id)) and there.auto_remove and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return there is None

    def receipt(self, end: End | None = None) -> StoppedContainer:
        """Return what was done, and how the container ended."""
        return StoppedContainer(
            identity=self.frozen.identity,
            name=self.frozen.name,
            image=self.frozen.image,
            signals=tuple(self.sent),
            end=end or self._end(),
            exit_code=self.exit_code,
            gone_at=self.gone_at,
            removed=self.removed,
            reason=self.reason,
        )

    def _end(self) -> End:
        if not self.ended:
            return End.SURVIVED
        if any(name == _SIGKILL for name, _ in self.sent):
            return End.KILLED
        return End.STOPPED if self.sent or self.begun else End.GONE
