"""Ask the Prefect server of people's deployments, without waiting long, and read runs of a deployment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.custody.errors import Refused
from tasks.prefect_side.clock import server_time
from tasks.prefect_side.local_config import own_server
from tasks.prefect_side.scheduler import NO_SERVER

READY: Final = "ready"
"""The name of the flow that looks."""
WORKER_GONE_SECONDS: Final = 90.0
"""After so long without a sign of life a worker counts as gone."""
_AT_ONCE: Final = {PREFECT_API_REQUEST_TIMEOUT: 10.0, PREFECT_CLIENT_MAX_RETRIES: 0}


@contextmanager
def asking() -> Iterator[SyncPrefectClient]:
    """Yield a client. Raises Refused if no server is named."""
    with own_server() as has_server, temporary_settings(_AT_ONCE):
        if not has_server:
            raise Refused("a Prefect server", NO_SERVER, "export PREFECT_API_URL=http://127.0.0.1:4200/api")
        with get_client({}, sync_client=True) as client:
            yield client


def is_served(client: SyncPrefectClient, queue: str, pool: str | None) -> bool:
    """Return whether a worker has polled the queue lately, by the server's clock. Raises ObjectNotFound."""
    last_poll = client.read_work_queue_by_name(queue, pool).last_polled
    return last_poll is not None and (server_time(client) - last_poll).total_seconds() <= WORKER_GONE_SECONDS


def runs_of(client: SyncPrefectClient, deployment: str, states: Sequence[str] = (), limit: int = 20) -> list[FlowRun]:
    """Return the newest runs of a deployment, FLOW/NAME, by the names of their states if any are given."""
    flow, _, name = deployment.partition("/")
    filters = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}, "limit": limit}
    of_states = {"flow_runs": {"state": {"name": {"any_": list(states)}}}} if states else {}
    query = {**filters, **of_states, "sort": "EXPECTED_START_TIME_DESC"}
    return [FlowRun.model_validate(each) for each in client.request("POST", "/flow_runs/filter", json=query).json()]
