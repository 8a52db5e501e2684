"""Find deployments that an earlier version named after the workload alone, as `evacuate/house`, and what starts them.

They still run, so that no automation of a person's points nowhere; a person points it to the new ones and deletes them.
"""

from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse

from tasks.custody.incident.deployment_names import full_name
from tasks.system.own_runs import FLOWS

_PEOPLE: Final = "flows.tell.tell"
"""Its deployment belongs to no workload."""


def is_former(deployment: DeploymentResponse, name: str) -> bool:
    """Return whether a deployment with this name has its former one, and is not today's of another workload.

    Today's `evacuate-house` may be the former name of a workload that is called so.
    """
    return bool(deployment.parameters.get("workload", name) == name)


def former_deployments(client: SyncPrefectClient, name: str) -> tuple[str, str]:
    """Return which deployments of a workload or a fleet have their former name, and how to part with them, or ""."""
    by_name = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    found = {
        each.id: client.read_flow(each.flow_id).name
        for each in client.read_deployments(deployment_filter=by_name)
        if each.entrypoint in FLOWS - {_PEOPLE} and is_former(each, name)
    }
    if not found:
        return "", ""
    starters = sorted(
        {each.name for id_ in found for each in client.read_resource_related_automations(f"prefect.deployment.{id_}")}
    )
    former = ", ".join(f"{flow}/{name}" for flow in sorted(found.values()))
    new = ", ".join(full_name(flow, name) for flow in sorted(found.values()))
    by = f"started by {', '.join(starters)}" if starters else "started by no automation"
    return (
        f"still deployed under former names 旧名のデプロイメント: {former}; {by}",
        f"let automations, pause_deployments and scripts name {new}; then: prefect deployment delete FORMER",
    )
