"""Read which flow run this is, what it came from, and who or what triggered it."""

from collections.abc import Iterable
from datetime import datetime

from prefect.context import FlowRunContext

from tasks.adapters.local_config import local_config
from tasks.custody.containment.pause import Kind, Launcher
from tasks.runtime.actor import BY_HAND, triggered_by
from tasks.system.processes import began


def this_run() -> tuple[str, datetime]:
    """Id of the flow run that we are in, and when it was asked for: the same for its retries.

    That is when the server recorded it; by hand, when this process began, which has frozen the workload before.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.created is None:
        raise RuntimeError("an evacuation runs inside a flow run")
    return str(context.flow_run.id), began() if local_config() else context.flow_run.created


def own_launchers() -> frozenset[Launcher]:
    """The deployment, queue and pool that this very run came from: paused, the next evacuation would never start."""
    from prefect.client.orchestration import get_client

    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return frozenset()
    run, own = context.flow_run, set[Launcher]()
    if run.work_pool_name:
        queue = f"{run.work_pool_name}/{run.work_queue_name}"
        own |= {Launcher(Kind.POOL, run.work_pool_name), Launcher(Kind.QUEUE, queue)}
    if run.deployment_id:
        with get_client(sync_client=True) as client:
            name = f"{context.flow.name}/{client.read_deployment(run.deployment_id).name}"
        own.add(Launcher(Kind.DEPLOYMENT, name))
    return frozenset(own)


def origin(own: Iterable[Launcher]) -> str:
    """Who or what triggered the run that we are in, for the custody log."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or local_config():
        return BY_HAND
    deployment = next((each.name for each in own if each.kind is Kind.DEPLOYMENT), "")
    return triggered_by(context.flow_run, deployment)
