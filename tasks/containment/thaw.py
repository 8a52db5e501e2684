"""§1, §2 undone: release a workload that was frozen and not yet stopped."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import Final

from tasks.containment.containers import restore_restart_policy
from tasks.containment.cordon import caught, held_newcomers
from tasks.containment.give_back import give_back
from tasks.containment.members import guard_of
from tasks.containment.paused import resume
from tasks.containment.release_groups import release_groups
from tasks.containment.uncordon import doubtful, living, standing_strangers
from tasks.containment.units import Units
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.thaw import Thawed, ran_before
from tasks.custody.errors import EngineError, Refused
from tasks.host.host import Host, lives, send_signal, thaw_process
from tasks.host.wrappers import wake
from tasks.incident.layout import (
    CAUGHT,
    EARLY,
    FROZEN,
    FROZEN_CONTAINERS,
)
from tasks.prestart.journal import early_containers, read_early, take_over, write_containers
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.step import step
from tasks.system.files.atomic_files import read_private

_GONE_SECONDS: Final = 5.0


@step("thaw", "thaw the workload", section="§2", ja="解凍", retries=2, last=True)
def thaw(context: RunContext) -> Thawed:
    """End the guard, continue all that ran before it was frozen, and resume Prefect's side. Idempotent.

    Newcomers that the guard caught go on too: without the evacuation they would have run. Processes that others had
    stopped before stay stopped. The guard ends first, because it would freeze everything again.
    """
    host, marker, units = context.adapters.host, context.cordon_files.marker, Units(context)
    context.end_joins()
    _relieve_guard(host, marker)
    host.systemd.release(marker)
    units.thaw()
    kept = release_groups(host, context.workload)
    others, now = _stopped_by_others(context), living(host, context.workload)
    processes = _thaw_processes(context, [each for each in others if each[0] in now])
    strangers = standing_strangers(
        host, [identity for identity, stood in others if not stood], load_frozen(context.state).keys() | now
    )
    containers = _thaw_containers(context)
    take_over(context.cordon_files.early, strangers)
    thawed, stood, gone, remaining = (tuple(one + other) for one, other in zip(processes, containers, strict=True))
    resumed, warnings = resume(context.adapters.scheduler, marker), tuple(units.warnings)
    result = Thawed(datetime.now(UTC), thawed, stood, gone, (*remaining, *strangers.values(), *kept), resumed, warnings)
    details = {"thawed": result.thawed, "stood": result.stood, "gone": result.gone, "left": result.left}
    context.log.write("thawed", context.incident.id, result=result.summary, **details)
    return result


def require_believable(home: Path, bases: Iterable[Path]) -> None:
    """Raise Refused if another user may have written a file that decides which processes get a signal."""
    doubts = [doubt for base in bases for name in (CAUGHT, EARLY) for doubt in doubtful(base / name)]
    try:
        for journal in (FROZEN, FROZEN_CONTAINERS):
            with suppress(FileNotFoundError):
                read_private(home / journal)
    except OSError as error:
        doubts.append(f"{error.filename}: {error.strerror}")
    if doubts:
        raise Refused("journals that only we can write", "; ".join(doubts), "Run this as the user of the evacuation.")


def _relieve_guard(host: Host, marker: Path) -> None:
    guard = guard_of(host, marker)
    host.release(marker)
    if guard and lives(host, guard):  # without a marker on any disk
        send_signal(host, guard, SIGTERM)
        host.wait_gone([guard], _GONE_SECONDS)


def _stopped_by_others(context: RunContext) -> list[tuple[Identity, bool]]:
    """Return what the guard and a run's start have stopped, and whether it stood before.

    The workload's account may own the folder above and put an older file there: who is no member now is not thawed.
    """
    newcomers = (
        (identity, bool(row.get("stood"))) for row in held_newcomers(context) if (identity := Identity.of(row))
    )
    return [*newcomers, *((identity, False) for identity in read_early(context.cordon_files.early))]


def _thaw_processes(context: RunContext, others: Iterable[tuple[Identity, bool]]) -> tuple[list[str], ...]:
    """Continue the processes. Return which were thawed, stood before, are gone, and could not be thawed and why."""
    host, frozen = context.adapters.host, load_frozen(context.state)
    ran, stood = ran_before([*((identity, each.stood) for identity, each in frozen.items()), *others])
    # a SIGSTOP to an uninterruptible wait is still to come; SIGCONT cancels it
    held = (
        identity
        for identity in sorted(ran)
        if (process := host.get_process(identity)) and process.state in {"T", "t", "D"}
    )
    wake(host, context.state.above.read(), ())  # sudo relays output only if it has continued its child itself
    sent = {identity: thaw_process(host, identity) for identity in held}
    give_back(context, ran, all_goes_on=True)
    return (
        [f"process {identity.pid}" for identity, denied in sent.items() if denied == ""],
        [f"process {identity.pid}" for identity in sorted(stood) if lives(host, identity)],
        [f"process {identity.pid}" for identity in sorted(ran) if not lives(host, identity)],
        [f"process {identity.pid} stays frozen: {denied}" for identity, denied in sent.items() if denied],
    )


def _thaw_containers(context: RunContext) -> tuple[list[str], ...]:
    """Unpause the containers, and return lists as `_thaw_processes` does.

    One that was between two starts was ended by the freeze: it has its restart policy again, and a person starts it.
    """
    engine, frozen = context.adapters.engine, frozen_containers(context.state)
    early = early_containers(context.cordon_files.early)
    others = [*_caught_containers(context), *((identity, False) for identity in early)]
    ran, stood = ran_before([*((identity, each.stood) for identity, each in frozen.items()), *others])
    names = {identity: f"container {identity.id[:12]}" for identity in ran | stood}
    names |= {identity: each.summary for identity, each in frozen.items()}
    thawed, gone, remaining, stay = list[str](), list[str](), list[str](), dict(early)
    for identity in sorted(ran):
        try:
            if (
                identity in frozen
                and not frozen[identity].paused_at
                and (failed := restore_restart_policy(context, identity, identity.id))
            ):
                remaining.append(f"not restored: {failed}")
            now = engine.get_container(identity.id)
            if now and now.alive and now.identity == identity:
                engine.unpause(identity.id)
                thawed += [names[identity]] * (now.state == "paused")
            else:
                between = identity in frozen and not (frozen[identity].paused_at or frozen[identity].denied)
                gone.append(f"{names[identity]}{', between two starts: start it by hand' if between else ''}")
            stay.pop(identity, None)
        except EngineError as error:
            remaining.append(f"{names[identity]} stays paused: {error}")
    if early:
        with suppress(OSError):
            write_containers(context.cordon_files.early, stay)
    return thawed, [names[identity] for identity in sorted(stood)], gone, remaining


def _caught_containers(context: RunContext) -> Iterator[tuple[ContainerIdentity, bool]]:
    for row in caught(context.cordon_files, context.incident.opened_at):
        with suppress(KeyError, TypeError):
            yield ContainerIdentity(**row["container"]), bool(row.get("stood"))
