"""Define an incident of a fleet: the list of hosts as it was frozen when the incident was opened, and its terms."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tasks.custody.fleet.host_order import Order


@dataclass(frozen=True)
class TargetHost:
    """A host of a fleet, known by the name of its workload block.

    `deployment` is the id of its evacuation, `pool` and `queue` lead to its worker, `store` is its store block.
    `problem` says why it can get no order: it stays in the list, and is not forgotten.
    """

    name: str
    deployment: str = ""
    pool: str = ""
    queue: str = ""
    store: str = ""
    problem: str = ""


@dataclass(frozen=True)
class FleetIncident:
    """One trigger of a fleet, with every host that it is about. Written once, before the first order."""

    id: str
    name: str
    opened_at: datetime
    opened_by: str
    reason: str
    policy: Literal["graceful", "kill"]
    recover: bool
    store: str
    order_seconds: float
    ask_after_seconds: float
    ask_above: int | None
    ask_seconds: float
    unanswered: Literal["stop", "thaw"]
    senders: int
    hosts: tuple[TargetHost, ...]

    @property
    def opener(self) -> str:
        """The id of the flow run that has opened it."""
        return self.opened_by.rpartition(", flow run ")[2]

    @property
    def asks_all(self) -> bool:
        """True if so many hosts are frozen at once, and stopped only if a person approves."""
        return self.ask_above is not None and len(self.hosts) > self.ask_above

    @property
    def until(self) -> datetime:
        """When the first orders stand no longer."""
        return self.opened_at + timedelta(seconds=self.order_seconds)

    @property
    def limit(self) -> str:
        """The name of the concurrency limit on sending; empty for none."""
        return f"fleet-send-{self.name}" if self.senders else ""

    @property
    def facts(self) -> dict[str, Any]:
        """The incident as JSON values."""
        return {**asdict(self), "opened_at": self.opened_at.isoformat()}

    def in_time(self, began: datetime | None, attempt: int, ordered: datetime | None) -> bool:
        """Return whether a host that began then is covered by the decision on the whole fleet."""
        since = self.since(attempt, ordered or self.opened_at)
        return began is not None and began <= since + timedelta(seconds=self.ask_after_seconds)

    def since(self, attempt: int, ordered: datetime) -> datetime:
        """Return when the terms of an attempt begin: those of the first with the incident, of a later one when ordered.

        So a first attempt that is ordered again, by a run that carries on, has the same terms.
        """
        return ordered if attempt > 1 else self.opened_at

    def order(self, host: TargetHost, attempt: int, now: datetime) -> Order:
        """Return the order for an attempt that is made now."""
        since = self.since(attempt, now)
        late = timedelta(seconds=0 if self.asks_all else self.ask_after_seconds)
        return Order(
            fleet=self.id,
            host=host.name,
            attempt=attempt,
            not_after=since + timedelta(seconds=self.order_seconds),
            ask_from=since + late,
            ask_seconds=self.ask_seconds,
            unanswered=self.unanswered,
            limit=self.limit,
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "FleetIncident":
        """Parse `facts`. Raises KeyError, TypeError or ValueError; checks no types: an audit does."""
        hosts = tuple(TargetHost(**host) for host in fields["hosts"])
        return cls(**{**fields, "hosts": hosts, "opened_at": datetime.fromisoformat(fields["opened_at"])})
