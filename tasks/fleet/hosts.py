"""Read from the Prefect server what a fleet consists of, how its runs stand, and which hosts give signs of life."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import ArtifactCollection, FlowRun
from prefect.client.schemas.sorting import ArtifactCollectionSort, FlowRunSort
from prefect.exceptions import ObjectNotFound

from blocks.fleet import Fleet
from tasks.custody.fleet.attempt import Attempt
from tasks.custody.fleet.host_end import CONTAINED_LABEL, FROZEN_LABEL
from tasks.custody.fleet.host_order import Order, fleet_tag
from tasks.custody.fleet.incident import TargetHost
from tasks.custody.incident.deployment_names import deployment_name, full_name
from tasks.prestart.freeze import FLOW

T = TypeVar("T")

Signs = Mapping[tuple[str, str], datetime]
"""The last sign of life by pool and queue."""
_PAGE: Final = 200
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_FLOW: Final = filters.FlowFilter(name=filters.FlowFilterName(any_=[FLOW]))


def every(read: Callable[..., list[T]], *args: Any, **kwargs: Any) -> list[T]:
    """Return all pages of a request: the server gives at most 200 of anything at once."""
    found = list[T]()
    while True:
        page = read(*args, limit=_PAGE, offset=len(found), **kwargs)
        found += page
        if len(page) < _PAGE:
            return found


def read_artifacts(client: SyncPrefectClient, key: str, *, like: bool = False) -> list[ArtifactCollection]:
    """Return the latest artifact of this key; with `like` of each key that fits the SQL pattern, the last key first."""
    wanted = filters.ArtifactCollectionFilterKey(like_=key) if like else filters.ArtifactCollectionFilterKey(any_=[key])
    of_key = filters.ArtifactCollectionFilter(key=wanted)
    return client.read_latest_artifacts(artifact_filter=of_key, sort=ArtifactCollectionSort.KEY_DESC)


def plain(time: datetime) -> datetime:
    """Return a time of Prefect's own class as a datetime in UTC: that class may lose its zone in a sum."""
    return datetime.fromtimestamp(time.timestamp(), UTC)


def hosts_of(client: SyncPrefectClient, fleet: Fleet) -> tuple[TargetHost, ...]:
    """Return the hosts of a fleet, by the names of their workloads. One that is named and not deployed is there too.

    The flow is not part of the question: by a filter of it the server takes four times as long, and a frame waits for
    the answer. Nor are the answers parsed as Prefect's client would: of a hundred deployments that takes longest.
    """
    wanted = list[filters.DeploymentFilter]()
    if fleet.workloads:
        names = sorted(deployment_name(FLOW, host) for host in fleet.workloads)
        wanted.append(filters.DeploymentFilter(name=filters.DeploymentFilterName(any_=names)))
    if fleet.tag:
        wanted.append(filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=[fleet.tag])))
    with ThreadPoolExecutor(1) as pool:
        flow = pool.submit(copy_context().run, _evacuation, client)
        pages = [every(_read_deployments, client, each) for each in wanted]
    named = [(_host(each), each["tags"]) for page in pages for each in page if each["flow_id"] == flow.result()]
    found = {host.name: host for host, tags in named if host.name in fleet.workloads or fleet.tag in tags}
    missing = {name: TargetHost(name, problem=f"no deployment {full_name(FLOW, name)}") for name in fleet.workloads}
    return tuple(host for _, host in sorted({**missing, **found}.items()))


def _read_deployments(client: SyncPrefectClient, wanted: filters.DeploymentFilter, **page: int) -> list[dict[str, Any]]:
    query = {"deployments": wanted.model_dump(mode="json", exclude_unset=True), **page}
    return list(client.request("POST", "/deployments/filter", json=query).json())


def _evacuation(client: SyncPrefectClient) -> str:
    """Return the id of the flow that evacuates a host; empty where none is deployed."""
    with suppress(ObjectNotFound):
        return str(client.read_flow_by_name(FLOW).id)
    return ""


def _host(each: Mapping[str, Any]) -> TargetHost:
    workload, store = (str(each["parameters"].get(name, "")) for name in ("workload", "store"))
    name = workload if each["name"] == deployment_name(FLOW, workload) else each["name"]
    return TargetHost(name, each["id"], each["work_pool_name"] or "", each["work_queue_name"] or "", store)


def attempts_of(client: SyncPrefectClient, fleet: str) -> dict[str, Attempt]:
    """Return the latest attempt for each host that has a run, by the order that the run carries."""
    tagged = filters.FlowRunFilter(tags=filters.FlowRunFilterTags(all_=[fleet_tag(fleet)]))
    runs = every(client.read_flow_runs, flow_filter=_FLOW, flow_run_filter=tagged, sort=FlowRunSort.ID_DESC)
    found = dict[str, Attempt]()
    for run in runs:
        if (order := _order_of(run)) is None or order.fleet != fleet:
            continue
        if order.host not in found or found[order.host].number < order.attempt:
            state = run.state
            found[order.host] = Attempt(
                number=order.attempt,
                run=str(run.id),
                kind=state.type.value if state else "",
                state=(state.name if state else "") or "",
                message=(state.message if state else "") or "",
                not_after=order.not_after,
                ordered=run.created and plain(run.created),
                began=run.start_time and plain(run.start_time),
                ended=run.end_time and plain(run.end_time),
                frozen=str(run.labels.get(FROZEN_LABEL, "")),
                contained=str(run.labels.get(CONTAINED_LABEL, "")),
            )
    return found


def _order_of(run: FlowRun) -> Order | None:
    with suppress(KeyError, TypeError, ValueError):
        return Order.of(run.parameters.get("order"))
    return None


def signs_of_life(client: SyncPrefectClient, hosts: Iterable[TargetHost]) -> Signs:
    """Return when each queue's worker was last heard of: a worker of the queue's name, or one that polled the queue."""
    found = dict[tuple[str, str], datetime]()
    for pool in sorted({host.pool for host in hosts if host.pool}):
        try:
            workers = every(client.read_workers_for_work_pool, pool)
            queues = every(client.read_work_queues, pool)
        except ObjectNotFound:
            continue
        heard = [
            *((worker.name, worker.last_heartbeat_time) for worker in workers),
            *((queue.name, queue.last_polled) for queue in queues),
        ]
        for name, at in heard:
            if at:
                found[pool, name] = max(plain(at), found.get((pool, name), _LONG_AGO))
    return found
