"""Read what this incident has frozen and stopped so far, from its journals (runbook §2, §3)."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import End, Frozen, FrozenContainer, Stopped, StoppedContainer
from tasks.runtime.state import IncidentState

K = TypeVar("K", Identity, ContainerIdentity)
F = TypeVar("F", Frozen, FrozenContainer)


def load_stopped(state: IncidentState) -> dict[Identity, Stopped]:
    """Return receipts of all that this incident has ended in this boot, in any of its runs."""
    receipts = [*load_announced(state).values(), *(state.stopped.read())]
    return {receipt.identity: receipt for receipt in receipts if receipt.end is not End.SURVIVED}


def load_announced(state: IncidentState) -> dict[Identity, Stopped]:
    """Return the receipts that a broken-off stop announced. A process that has not ended counts as SURVIVED."""
    return {receipt.identity: receipt for receipt in state.stopping.read()}


def unended_key(state: IncidentState) -> str:
    """Return a cache key made of what was frozen and has no receipt of its end: it may still write."""
    processes = load_frozen(state).keys() - load_stopped(state).keys()
    return _key(processes, frozen_containers(state).keys() - stopped_containers(state).keys())


def by_frozen(_: Any, parameters: Mapping[str, Any]) -> str:
    """The processes and containers that the incident has frozen."""
    return frozen_key(parameters["context"].state)


def frozen_key(state: IncidentState) -> str:
    """Return a cache key made of all that this incident has frozen so far."""
    return _key(load_frozen(state), frozen_containers(state))


def _key(identities: Collection[Identity], containers: Collection[ContainerIdentity]) -> str:
    processes = ",".join(f"{identity.pid}.{identity.start}" for identity in sorted(identities))
    return f"{processes};{containers_key(containers)}" if containers else processes


def load_frozen(state: IncidentState) -> dict[Identity, Frozen]:
    """Return all that this incident has frozen in this boot, in any of its runs; `with_earlier_boots` adds the rest."""
    return {process.identity: process for process in state.frozen.read()}


def frozen_before(state: IncidentState) -> Iterator[Frozen]:
    """Yield every process that the incident froze, in any boot; those of the last boot first."""
    return (process for journal in reversed(state.frozen.of_boots()) for process in journal)


def frozen_containers(state: IncidentState) -> dict[ContainerIdentity, FrozenContainer]:
    """Return every container that this incident has paused in this boot, in any of its runs."""
    return {each.identity: each for each in state.frozen_containers.read()}


def with_earlier(earlier: Mapping[K, F], fresh: Mapping[K, F]) -> list[F]:
    """Return what earlier runs froze, and what this one did; whether that stood before is known from the first."""
    kept = {key: replace(each, stood=earlier.get(key, each).stood) for key, each in fresh.items()}
    return sorted({**earlier, **kept}.values(), key=lambda each: each.identity)


def stopped_containers(state: IncidentState) -> dict[ContainerIdentity, StoppedContainer]:
    """Return receipts of the containers that this incident has ended in this boot."""
    return {each.identity: each for each in state.stopped_containers.read()}


def containers_key(identities: Iterable[ContainerIdentity]) -> str:
    """Return the containers' part of a cache key."""
    return ",".join(f"{each.id[:12]}.{each.started_at}" for each in sorted(identities))
