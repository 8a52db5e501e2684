"""Read this flow run's id, origin and trigger; build its final state."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed

from tasks.custody.containment.pause import Launcher, LauncherKind
from tasks.custody.incident.ending import FINISHED, Ending
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.host.process.table import began
from tasks.prefect_side.local_config import local_config
from tasks.runtime.actor import BY_HAND, triggered_by


def this_run() -> tuple[str, datetime]:
    """Return the id of the current flow run, and when it was requested. Retries keep both.

    The time is when the server recorded the run; on the command line, when this process began.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.created is None:
        raise RuntimeError("an evacuation runs inside a flow run")
    return str(context.flow_run.id), began() if local_config() else context.flow_run.created


def own_launchers() -> frozenset[Launcher]:
    """Return this run's own deployment, queue and pool. If they were paused, the next evacuation would not start."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return frozenset()
    run, own = context.flow_run, set[Launcher]()
    if run.work_pool_name:
        queue = f"{run.work_pool_name}/{run.work_queue_name}"
        own |= {Launcher(LauncherKind.POOL, run.work_pool_name), Launcher(LauncherKind.QUEUE, queue)}
    if run.deployment_id:
        with get_client(sync_client=True) as client:
            name = f"{context.flow.name}/{client.read_deployment(run.deployment_id).name}"
        own.add(Launcher(LauncherKind.DEPLOYMENT, name))
    return frozenset(own)


def finished_before(run: str) -> Ending:
    """Return how a retry ends whose incident is finished: in the colour that its run ended in before.

    A server that does not say so leaves it red: nothing was proven by the retry.
    """
    before = list[State[Any]]()
    with suppress(Exception), get_client(sync_client=True) as client:
        before = [state for state in client.read_flow_run_states(UUID(run)) if state.is_final()]
    return replace(FINISHED, completed=bool(before) and before[-1].is_completed())


def origin(own: Iterable[Launcher]) -> str:
    """Return who or what triggered the current run, for the custody log."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or local_config():
        return BY_HAND
    deployment = next((each.name for each in own if each.kind is LauncherKind.DEPLOYMENT), "")
    return triggered_by(context.flow_run, deployment)


def make_state(ending: Ending, message: str) -> State[Any]:
    """Return the state. `message` says in plain words what a person has to know of this run."""
    return (Completed if ending.completed else Failed)(name=ending.name, message=visible(message, LINE_LIMIT))
