"""§1, Prefect's side: pause what starts training from there, and resume exactly that."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from blocks.workload import Workload
from tasks.adapters.prefect_scheduler import Scheduler
from tasks.custody.containment.pause import Kind, Launcher, Pause, Resume, launchers, with_first_seen
from tasks.incident.layout import PRIOR
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.atomic_files import read_plain, write_whole

logger = logging.getLogger(__name__)

_SECONDS: Final = 10.0


@step("§1", "pause", "cordon: pause Prefect's side", "起動元の一時停止")
def pause(context: RunContext) -> Pause:
    """Pause what starts training from Prefect's own side. Done twice it is still one pause (runbook §1)."""
    return pause_named(context)


def pause_named(context: RunContext) -> Pause:
    """Pause each launcher that the block names. What was paused before us is written down first, and stays so."""
    if context.state.recovered.read():
        return Pause((), reason="released by this incident's own recovery")
    deadline = time.monotonic() + _SECONDS
    named = named_by(context.workload)
    seen = context.adapters.scheduler.list_states(named, _SECONDS)
    prior = with_first_seen(read_prior(context.cordon_files.marker), seen)
    _write_prior(context.cordon_files.marker, prior)
    running = [state.launcher for state in seen if state.paused is False]
    now = context.adapters.scheduler.set_paused(running, deadline - time.monotonic(), paused=True)
    states = {state.launcher: state for state in (*seen, *now)}
    for state in states.values():
        before = prior.get(state.launcher)
        context.log.write("paused", str(state.launcher), paused=state.paused, before=before, reason=state.reason)
    return Pause(tuple(states.values()), tuple(launcher for launcher in named if prior.get(launcher)))


def named_by(workload: Workload) -> tuple[Launcher, ...]:
    """What the workload block names."""
    return launchers(workload.pause_deployments, workload.pause_queues, workload.pause_pools)


def resume(scheduler: Scheduler, marker: Path) -> Resume:
    """Let go of what we have paused, and of nothing else. Done twice it is done once; what fails stays written down.

    Goes by the list beside the cordon's marker, not by the block: that may have been changed meanwhile.
    """
    prior = read_prior(marker)
    ours = [launcher for launcher, before in prior.items() if not before]
    resumed = Resume(
        scheduler.set_paused(ours, _SECONDS, paused=False),
        tuple(launcher for launcher, before in prior.items() if before),
    )
    _write_prior(marker, {state.launcher: False for state in resumed.left})
    return resumed


def read_prior(marker: Path) -> dict[Launcher, bool]:
    """What stood before the cordon: True for what was paused already. Nothing where nothing is written down."""
    try:
        rows = json.loads(read_plain(marker.with_name(PRIOR)))
        return {Launcher(Kind(row["kind"]), row["name"]): row["paused_before"] for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.error("%s is damaged and is not followed: %s", marker.with_name(PRIOR), error)  # noqa: TRY400
        return {}


def _write_prior(marker: Path, prior: Mapping[Launcher, bool]) -> None:
    """A disk that takes nothing does not stop a containment: the custody log then still tells what was paused."""
    path = marker.with_name(PRIOR)
    rows = [{"kind": each.kind, "name": each.name, "paused_before": before} for each, before in prior.items()]
    try:
        if rows:
            write_whole(path, json.dumps(rows, indent=1).encode())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.error("%s could not be kept on disk: %s. Resume by hand what was paused.", path, error)  # noqa: TRY400
