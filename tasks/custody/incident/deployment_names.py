"""Name deployments for what they do, as prefect.yaml and examples/fleet/fleet.yaml do: `evacuate/evacuate-house`."""

from typing import Final

_ACTS: Final = {"drill": "rehearse", "fleet": "evacuate-fleet", "fleet-thaw": "thaw-fleet"}
"""What flows do that are not called by it."""


def deployment_name(flow: str, of: str) -> str:
    """Return the name of the deployment of this flow for a workload, or of a fleet's flow for a fleet."""
    return f"{_ACTS.get(flow, flow)}-{of}"


def full_name(flow: str, of: str) -> str:
    """Return the name that `prefect deployment run` takes, FLOW/DEPLOYMENT."""
    return f"{flow}/{deployment_name(flow, of)}"
