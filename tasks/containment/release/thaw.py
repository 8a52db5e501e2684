"""§1, §2 undone: release a workload that was frozen and not yet stopped."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import Final

from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import guard_of
from tasks.containment.release.control_groups import release_groups
from tasks.containment.release.resume_prefect import resume
from tasks.containment.release.uncordon import containers_in, doubtful, living, read_journals, standing_strangers
from tasks.containment.release.wrappers import Wrappers
from tasks.containment.units import Units
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.thaw import Thawed, ran_before
from tasks.custody.errors import EngineError, Refused
from tasks.host.host import Host, lives, send_signal, thaw_process
from tasks.host.wrappers import wake
from tasks.incident.layout import CAUGHT, EARLY, FROZEN, FROZEN_CONTAINERS, RETURNED, RETURNED_CONTAINERS
from tasks.prestart.journal import read_early, take_over, write_containers
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step
from tasks.system.files.atomic_files import read_private

_GONE_SECONDS: Final = 5.0


@step("thaw", "thaw the workload", section="§2", ja="解凍", retries=2, last=True)
def thaw(context: RunContext) -> Thawed:
    """End the guard, continue all that ran before it was frozen, and resume Prefect's side. Idempotent.

    Newcomers that a guard caught go on too: without the evacuation they would have run. So does what an earlier
    incident had frozen. Processes that others had stopped before stay stopped. The guard ends first, because it would
    freeze everything again. Its journal goes to the incident's folder: nothing in it is held any more.
    """
    host, state, files = context.adapters.host, context.state, context.cordon_files
    cordon, units = IncidentCordon(context), Units(context)
    context.end_joins()
    _relieve_guard(host, files.marker)
    host.systemd.release(files.marker)
    units.thaw()
    kept = release_groups(host, context.workload)
    early = read_early(files.early)
    rows = read_journals(context.workload, FROZEN, RETURNED, thawed=False)
    earlier = [(identity, bool(row.get("stood"))) for row in rows if (identity := Identity.of(row))]
    others = [*cordon.held_processes(), *earlier, *((identity, False) for identity in early.frozen)]
    # an account that owns the folder above may have put an older file there
    own = load_frozen(state).keys() | living(host, context.workload)
    processes = _thaw_processes(host, state, Wrappers(host, state, cordon), [each for each in others if each[0] in own])
    strangers = standing_strangers(host, [identity for identity, stood in others if not stood], own)
    containers = _thaw_containers(WorkloadContainers(context), cordon, early.containers)
    take_over(files.early, strangers)
    thawed, stood, gone, remaining = (tuple(one + other) for one, other in zip(processes, containers, strict=True))
    resumed, warnings = resume(context.adapters.scheduler, files.marker), tuple(units.warnings)
    result = Thawed(datetime.now(UTC), thawed, stood, gone, (*remaining, *strangers.values(), *kept), resumed, warnings)
    details = {"thawed": result.thawed, "stood": result.stood, "gone": result.gone, "left": result.left}
    context.log.write("thawed", context.incident.id, result=result.summary, **details)
    if not result.left:
        with suppress(OSError):
            shutil.move(files.caught, context.directory.path / CAUGHT)
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


def _thaw_processes(
    host: Host, state: IncidentState, wrappers: Wrappers, others: Iterable[tuple[Identity, bool]]
) -> tuple[list[str], ...]:
    """Continue the processes. Return which were thawed, stood before, are gone, and could not be thawed and why."""
    ran, stood = ran_before([*((identity, each.stood) for identity, each in load_frozen(state).items()), *others])
    # a SIGSTOP to an uninterruptible wait is still to come; SIGCONT cancels it
    found = ((identity, host.get_process(identity)) for identity in sorted(ran))
    held = (identity for identity, process in found if process and process.state in {"T", "t", "D"})
    wake(host, state.above.read(), ())  # sudo relays output only if it has continued its child itself
    sent = {identity: thaw_process(host, identity) for identity in held}
    wrappers.give_back(ran, all_goes_on=True)
    return (
        [f"process {identity.pid}" for identity, denied in sent.items() if denied == ""],
        [f"process {identity.pid}" for identity in sorted(stood) if lives(host, identity)],
        [f"process {identity.pid}" for identity in sorted(ran) if not lives(host, identity)],
        [f"process {identity.pid} stays frozen: {denied}" for identity, denied in sent.items() if denied],
    )


def _thaw_containers(
    ours: WorkloadContainers, cordon: IncidentCordon, early: Mapping[ContainerIdentity, datetime]
) -> tuple[list[str], ...]:
    """Unpause the containers, and return lists as `_thaw_processes` does.

    One that was between two starts was ended by the freeze: it has its restart policy again, and a person starts it.
    """
    frozen = frozen_containers(ours.state)
    seen = [*((identity, each.stood) for identity, each in frozen.items()), *((identity, False) for identity in early)]
    rows = read_journals(cordon.workload, FROZEN_CONTAINERS, RETURNED_CONTAINERS, thawed=False)
    seen += [each for each in containers_in(rows) if each[0] in frozen]
    ran, stood = ran_before([*seen, *containers_in(cordon.held_newcomers())])
    names = {identity: f"container {identity.id[:12]}" for identity in ran | stood}
    names |= {identity: each.summary for identity, each in frozen.items()}
    thawed, gone, remaining, stay = list[str](), list[str](), list[str](), dict(early)
    for identity in sorted(ran):
        was = frozen.get(identity)
        try:
            if was and not was.paused_at and (failed := ours.restore_restart_policy(identity, identity.id)):
                remaining.append(f"not restored: {failed}")
            now = ours.engine.get_container(identity.id)
            if now and now.alive and now.identity == identity:
                ours.engine.unpause(identity.id)
                thawed += [names[identity]] * (now.state == "paused")
            else:
                between = was and not (was.paused_at or was.denied)
                gone.append(f"{names[identity]}{', between two starts: start it by hand' if between else ''}")
            stay.pop(identity, None)
        except EngineError as error:
            remaining.append(f"{names[identity]} stays paused: {error}")
    if early:
        with suppress(OSError):
            write_containers(cordon.files.early, stay)
    return thawed, [names[identity] for identity in sorted(stood)], gone, remaining
