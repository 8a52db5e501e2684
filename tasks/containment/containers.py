"""§2, §3 for containers, if the block names any: pause them, end them with a receipt each, check that none is left."""

import json
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.custody.containment.container import (
    Container,
    ContainerIdentity,
    FrozenContainer,
    StoppedContainer,
    belongs,
    gentle_signal_of,
    workload_containers,
)
from tasks.custody.containment.ends import End
from tasks.custody.containment.process import Masks
from tasks.custody.errors import ContainerGone, EngineError
from tasks.runtime.context import RunContext
from tasks.system.cancellation import apart
from tasks.system.processes import standpoint

logger = logging.getLogger(__name__)

_ROUNDS: Final = 8
_KILL_SECONDS: Final = 10.0
_REMOVAL_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05
_AT_ONCE: Final = 8
_SIGKILL: Final = "SIGKILL"
_BETWEEN_STARTS: Final = "restarting"


def find_containers(context: RunContext) -> list[Container]:
    """Every living container of the workload, but for what our own recovery brought back. EngineError if not known."""
    asked = context.workload.containers
    if not asked:
        return []
    recovered = {each.id for each in context.state.recovered_containers.read()}
    found = workload_containers(context.adapters.engine.containers(asked), asked, standpoint().own)
    return [container for container in found if container.id not in recovered]


def frozen_containers(context: RunContext) -> dict[ContainerIdentity, FrozenContainer]:
    """Every container that this incident has paused so far, whichever run did it."""
    return {each.identity: each for each in context.state.frozen_containers.read()}


def stopped_containers(context: RunContext) -> dict[ContainerIdentity, StoppedContainer]:
    """Receipts of the containers that this incident has ended so far."""
    return {each.identity: each for each in context.state.stopped_containers.read()}


def freeze_containers(context: RunContext) -> tuple[tuple[FrozenContainer, ...], str]:
    """Pause all of them, again until a look finds no new one; and why, if the engine could not be asked."""
    fresh: dict[ContainerIdentity, FrozenContainer] = {}
    trouble = ""
    try:
        for _ in range(_ROUNDS):
            seen = find_containers(context)
            new = [each for each in seen if each.identity not in fresh or each.state == _BETWEEN_STARTS]
            if not new:
                break
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                fresh |= {each.identity: each for each in pool.map(lambda one: freeze_container(context, one), new)}
    except EngineError as error:
        trouble = str(error)
        context.log.write("engine not asked", context.adapters.engine.place, reason=trouble)
    earlier = frozen_containers(context)
    fresh |= {who: replace(each, stood=earlier[who].stood) for who, each in fresh.items() if who in earlier}
    everyone = tuple(sorted({**earlier, **fresh}.values(), key=lambda each: each.identity))
    context.state.frozen_containers.write(list(everyone))
    for each in fresh.values():
        about = {"name": each.name, "image": each.image, "why": each.why, "denied": each.denied}
        context.log.write("container paused", each.identity.id, **about)
    return everyone, trouble


def freeze_container(context: RunContext, container: Container) -> FrozenContainer:
    """Pause one where it stands; one that is between two starts runs nothing, and is kept from the next."""
    seen, denied, paused_at = datetime.now(UTC), "", None
    try:
        if container.state == _BETWEEN_STARTS:
            _keep_config(context, container)
            _keep_down(context, container)
        else:
            context.adapters.engine.pause(container.id)
            paused_at = datetime.now(UTC)
        _keep_config(context, container)
    except ContainerGone:
        pass
    except EngineError as error:
        denied = error.got
    return FrozenContainer(
        identity=container.identity,
        name=container.name,
        image=container.image,
        restart=container.restart,
        auto_remove=container.auto_remove,
        why=next(entry for entry in context.workload.containers if belongs(container, entry)),
        seen_at=seen,
        paused_at=paused_at,
        denied=denied,
        stood=container.state == "paused",
    )


def _keep_down(context: RunContext, container: Container) -> None:
    """Forbid the next start, again until it is down or in another life: one may be under way while it is forbidden."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (
        (now := context.adapters.engine.get_container(container.id))
        and now.alive
        and now.identity == container.identity
        and time.monotonic() < deadline
    ):
        with suppress(ContainerGone):
            context.adapters.engine.forbid_restart(container.id)
            context.adapters.engine.signal(container.id, _SIGKILL)
        time.sleep(_POLL_SECONDS)


def _keep_config(context: RunContext, container: Container) -> None:
    """What it takes to make it again, as it was before we changed anything: the first look counts.

    It holds the workload's secrets: for us alone, and never sent anywhere.
    """
    path = _config(context, container.identity)
    if path.exists():
        return
    about = json.dumps(context.adapters.engine.inspect(container.id)).encode()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(about)
    except OSError as error:
        path.unlink(missing_ok=True)
        context.log.write("configuration lost", container.id, reason=str(error))
        logger.error("%s cannot be made again as it was: %s", container.summary, error)  # noqa: TRY400


def _config(context: RunContext, container: ContainerIdentity) -> Path:
    return context.directory.path / f"container-{container.id}.json"


def kept_config(context: RunContext, container: ContainerIdentity) -> dict[str, Any]:
    """The configuration as it was when the container was paused."""
    kept: dict[str, Any] = json.loads(_config(context, container).read_bytes())
    return kept


def stop_containers(context: RunContext) -> tuple[StoppedContainer, ...]:
    """End all that were paused, side by side; those that an earlier run has ended keep their receipts."""
    earlier = stopped_containers(context)
    left = {identity: each for identity, each in frozen_containers(context).items() if identity not in earlier}
    begun = set(context.state.stopping_containers.read())
    if left:
        context.state.stopping_containers.write(list(left))
    gently = context.run.policy == "graceful"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        stops = [pool.submit(stop_container, context, left[who], gently=gently, begun=who in begun) for who in left]
    fresh = [each.result() for each in stops]
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    ended = [receipt for receipt in receipts if receipt.end is not End.SURVIVED]
    context.state.stopped_containers.write(ended)
    if left:
        context.state.stopping_containers.write([])
    for receipt in fresh:
        about = {"signals": [name for name, _ in receipt.signals], "removed": receipt.removed, "reason": receipt.reason}
        context.log.write("stopped", receipt.identity.id, end=receipt.end, exit_code=receipt.exit_code, **about)
    return tuple(receipts)


def stop_container(
    context: RunContext, frozen: FrozenContainer, *, gently: bool, begun: bool = False
) -> StoppedContainer:
    """End one, unless the engine cannot do it: then it survives, with the reason.

    `begun` says that a run that died was about to end it, so it has not ended by itself.
    """
    stopping = StoppingContainer(context, frozen, begun=begun)
    try:
        stopping.end(gently=gently)
    except EngineError as error:
        stopping.reason = str(error)
    stopping.look_once_more()
    return stopping.receipt()


class StoppingContainer:
    """One container's end in progress."""

    def __init__(self, context: RunContext, frozen: FrozenContainer, *, begun: bool = False) -> None:
        """Nothing is sent yet, but for what a run that died may have sent."""
        self.begun = begun
        self.context, self.engine, self.frozen = context, context.adapters.engine, frozen
        self.id = frozen.identity.id
        self.sent: list[tuple[str, datetime]] = []
        self.ended, self.removed, self.reason = False, False, ""
        self.exit_code: int | None = None
        self.gone_at: datetime | None = None

    def end(self, *, gently: bool) -> None:
        """Its restart forbidden, the stop signal that it hears queued while it is paused, the grace, SIGKILL.

        The engine thaws it to let it act on the signal. Not gently: SIGKILL is queued, so the thaw finds it dead.
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
            self.removed = self._removed()

    def _masks(self, container: Container) -> Masks | None:
        process = self.context.adapters.host.snapshot().get(container.pid)
        return process.masks if process and process.container == self.id else None

    def _send(self, name: str, seconds: float) -> None:
        """Wait for the end from before the signal: an exit code is gone with the container (`docker run --rm`)."""
        waiting, _ = apart(lambda: self.engine.end_of(self.id, seconds))
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
        """An engine that was late to answer has kept nothing alive: what counts is whether it lives now."""
        if self.ended:
            return
        try:
            now = self.engine.get_container(self.id)
        except EngineError:
            return
        if not (now and now.alive and now.identity == self.frozen.identity):
            self.ended, self.gone_at = True, datetime.now(UTC)
            self.exit_code = now.exit_code if now else None

    def _removed(self) -> bool:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while (there := self.engine.get_container(self.id)) and there.auto_remove and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return there is None

    def receipt(self, end: End | None = None) -> StoppedContainer:
        """What was done, and how it ended."""
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


def living_containers(context: RunContext) -> tuple[str, ...]:
    """Look anew: containers of the workload that may run something, paused ones too; or that it is not known."""
    try:
        listed = find_containers(context)
        # the engine's list may lag behind what it knows of each
        living = [
            each for each in listed if (now := context.adapters.engine.get_container(each.identity.id)) and now.alive
        ]
        told = {each.identity: f"{each.summary} is {each.state} ({_why(context, each)})" for each in living}
        for frozen in frozen_containers(context).values():
            now = context.adapters.engine.get_container(frozen.identity.id)
            if now and now.alive and now.identity == frozen.identity:
                told.setdefault(now.identity, f"{now.summary} was paused by us and is {now.state}")
    except EngineError as error:
        return (f"whether its containers run is not known: {error}",)
    return tuple(told.values())


def _why(context: RunContext, container: Container) -> str:
    return ", ".join(entry for entry in context.workload.containers if belongs(container, entry))


def containers_key(identities: Iterable[ContainerIdentity]) -> str:
    """Part of the cache keys of acts on the world."""
    return ",".join(f"{each.id[:12]}.{each.started_at}" for each in sorted(identities))
