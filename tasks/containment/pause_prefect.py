"""§1, Prefect's side: pause what starts training from there."""

import time

from blocks.workload import Workload
from tasks.containment.release.resume_prefect import SECONDS, read_prior, write_prior
from tasks.custody.containment.pause import Launcher, Pause, launchers, with_first_seen
from tasks.runtime.context import RunContext
from tasks.runtime.step import step


@step("pause", "cordon: pause Prefect's side", section="§1", ja="起動元の一時停止", retries=1)
def pause(context: RunContext) -> Pause:
    """Pause what starts training from Prefect's side. Idempotent (runbook §1)."""
    return pause_named(context)


def pause_named(context: RunContext) -> Pause:
    """Pause each launcher that the block names. Records first which ones were paused already; these stay paused."""
    if context.state.recovered.read():
        return Pause((), reason="released by this incident's own recovery")
    deadline = time.monotonic() + SECONDS
    named = named_by(context.workload)
    seen = context.adapters.scheduler.list_states(named, SECONDS)
    prior = with_first_seen(read_prior(context.cordon_files.marker), seen)
    write_prior(context.cordon_files.marker, prior)
    running = [state.launcher for state in seen if state.paused is False]
    now = context.adapters.scheduler.set_paused(running, deadline - time.monotonic(), paused=True)
    states = {state.launcher: state for state in (*seen, *now)}
    for state in states.values():
        before = prior.get(state.launcher)
        context.log.write("paused", str(state.launcher), paused=state.paused, before=before, reason=state.reason)
    return Pause(tuple(states.values()), tuple(launcher for launcher in named if prior.get(launcher)))


def named_by(workload: Workload) -> tuple[Launcher, ...]:
    """Return the launchers that the block names."""
    return launchers(workload.pause_deployments, workload.pause_queues, workload.pause_pools)
