"""§3: read what an incident froze and stopped in earlier boots of this host, and what the reboots ended."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tasks.custody.containment.receipt import End, Freeze, Stop, Stopped, StoppedContainer
from tasks.custody.incident.log import CustodyLog
from tasks.incident.layout import earlier_boots
from tasks.runtime.state import IncidentState

_REASON: Final = "no receipt of its end in that boot: the reboot ended it, at the latest (遅くとも再起動で終了)"


def with_earlier_boots(
    state: IncidentState, freeze: Freeze | None, stop: Stop | None
) -> tuple[Freeze | None, Stop | None]:
    """Add what the incident froze and stopped in earlier boots. None of these lives: their pids belong to others now.

    A frozen process without a receipt of its end was ended by the reboot.
    """
    for boot in earlier_boots(state.home):
        if freeze:
            frozen = (*state.frozen.of_boot(boot), *freeze.processes)
            paused = (*state.frozen_containers.of_boot(boot), *freeze.containers)
            freeze = replace(freeze, processes=frozen, containers=paused)
        if stop:
            processes = (*_receipts(state, boot), *stop.processes)
            stop = replace(stop, processes=processes, containers=(*_container_receipts(state, boot), *stop.containers))
    return freeze, stop


def note_reboots(state: IncidentState, log: CustodyLog) -> None:
    """Log once for each reboot what it has ended."""
    noted = {entry["object"] for entry in log.entries() if entry["action"] == "rebooted"}
    for boot in earlier_boots(state.home):
        if boot not in noted:
            ends = [each.end for each in _receipts(state, boot)]
            ends += [each.end for each in _container_receipts(state, boot)]
            result = f"{ends.count(End.REBOOT)} of {len(ends)} had no receipt of their end in the boot before"
            log.write("rebooted", boot, result=result)


def _receipts(state: IncidentState, boot: str) -> Iterator[Stopped]:
    announced = {each.identity: each for each in state.stopping.of_boot(boot)}
    receipts = {**announced, **{each.identity: each for each in state.stopped.of_boot(boot)}}
    frozen = {each.identity: each for each in state.frozen.of_boot(boot)}
    for identity in {**frozen, **receipts}:
        receipt, was = receipts.get(identity), frozen.get(identity)
        if receipt and receipt.end is not End.SURVIVED:
            yield receipt
        elif each := receipt or was:
            end = End.GONE if was and not (was.frozen_at or was.denied) else End.REBOOT
            signals, reason = receipt.signals if receipt else (), _REASON if end is End.REBOOT else ""
            yield Stopped(identity, each.role, each.command, signals, end, None, reason)


def _container_receipts(state: IncidentState, boot: str) -> Iterator[StoppedContainer]:
    receipts = {each.identity: each for each in state.stopped_containers.of_boot(boot)}
    yield from receipts.values()
    for each in state.frozen_containers.of_boot(boot):
        if each.identity not in receipts:
            end, reason = (End.REBOOT, _REASON) if each.paused_at or each.denied else (End.GONE, "")
            details = (each.identity, each.name, each.image)
            yield StoppedContainer(*details, (), end, exit_code=None, gone_at=None, removed=False, reason=reason)
