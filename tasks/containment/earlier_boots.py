"""§3: read what an incident froze and stopped in earlier boots of this host, and what a reboot has ended."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.custody.containment.container import FrozenContainer, StoppedContainer
from tasks.custody.containment.ends import End
from tasks.custody.containment.receipt import Freeze, Frozen, Stop, Stopped
from tasks.incident.layout import (
    FROZEN,
    FROZEN_CONTAINERS,
    STOPPED,
    STOPPED_CONTAINERS,
    STOPPING,
    earlier_boots,
    of_boot,
)
from tasks.runtime.context import RunContext
from tasks.system.atomic_files import read_private

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REASON: Final = "no receipt of its end in that boot: the reboot ended it, at the latest (遅くとも再起動で終了)"


def with_earlier_boots(
    context: RunContext, freeze: Freeze | None, stop: Stop | None
) -> tuple[Freeze | None, Stop | None]:
    """Add what the incident froze and stopped in earlier boots. Nobody of these is there: their pids are others' now.

    Who was frozen and has no receipt of its end was ended by the reboot.
    """
    for boot in earlier_boots(context.directory.path):
        if freeze:
            processes, containers = _read(context, FROZEN, boot, Frozen), _frozen_containers(context, boot)
            freeze = replace(
                freeze, processes=(*processes, *freeze.processes), containers=(*containers, *freeze.containers)
            )
        if stop:
            stop = replace(
                stop,
                processes=(*_receipts(context, boot), *stop.processes),
                containers=(*_container_receipts(context, boot), *stop.containers),
            )
    return freeze, stop


def note_reboots(context: RunContext) -> None:
    """Tell once of each reboot in the custody log what it has ended."""
    noted = {entry["object"] for entry in context.log.entries() if entry["action"] == "rebooted"}
    for boot in earlier_boots(context.directory.path):
        if boot not in noted:
            ends = [each.end for each in _receipts(context, boot)]
            ends += [each.end for each in _container_receipts(context, boot)]
            result = f"{ends.count(End.REBOOT)} of {len(ends)} had no receipt of their end in the boot before"
            context.log.write("rebooted", boot, result=result)


def _receipts(context: RunContext, boot: str) -> Iterator[Stopped]:
    announced = {each.identity: each for each in _read(context, STOPPING, boot, Stopped)}
    receipts = {**announced, **{each.identity: each for each in _read(context, STOPPED, boot, Stopped)}}
    frozen = {each.identity: each for each in _read(context, FROZEN, boot, Frozen)}
    for who in {**frozen, **receipts}:
        receipt, was = receipts.get(who), frozen.get(who)
        if receipt and receipt.end is not End.SURVIVED:
            yield receipt
        elif each := receipt or was:
            end = End.GONE if was and not (was.frozen_at or was.denied) else End.REBOOT
            signals, reason = receipt.signals if receipt else (), _REASON if end is End.REBOOT else ""
            yield Stopped(who, each.role, each.command, signals, end, None, reason)


def _container_receipts(context: RunContext, boot: str) -> Iterator[StoppedContainer]:
    receipts = {each.identity: each for each in _read(context, STOPPED_CONTAINERS, boot, StoppedContainer)}
    yield from receipts.values()
    for each in _frozen_containers(context, boot):
        if each.identity not in receipts:
            end, reason = (End.REBOOT, _REASON) if each.paused_at or each.denied else (End.GONE, "")
            about = (each.identity, each.name, each.image)
            yield StoppedContainer(*about, (), end, exit_code=None, gone_at=None, removed=False, reason=reason)


def _frozen_containers(context: RunContext, boot: str) -> list[FrozenContainer]:
    return _read(context, FROZEN_CONTAINERS, boot, FrozenContainer)


def _read(context: RunContext, name: str, boot: str, kind: type[T]) -> list[T]:
    path = context.directory.path / of_boot(name, boot)
    try:
        return TypeAdapter(list[kind]).validate_json(read_private(path))  # type: ignore[valid-type]
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        logger.error("What a journal of an earlier boot says is not told: %s: %s", path, error)  # noqa: TRY400
        return []
