"""Define the guard's configuration, and what its marker says: lock, matchers, files to write (runbook §1)."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tasks.custody.containment.identity import Identity
from tasks.host.process.matcher import WorkloadDescription


@dataclass(frozen=True)
class GuardConfig:
    """Everything that a guard needs, as plain data: it is passed as JSON.

    `caught` is the file for newcomers. `known` are journals of processes that the incident has frozen: while a run is
    at work, by the lock in the folder `evidence`, only the run thaws and ends them. `started` are journals of processes
    that a recovery has started. `spared` are the processes that started the evacuation, and their ancestors.
    `containers` is how its containers are recognised on the engine at `docker_host`; without any the engine is not
    watched.
    """

    incident: str
    reason: str
    since: str
    lock: str
    marker: str
    caught: str
    known: tuple[str, ...]
    workload: WorkloadDescription
    spared: tuple[Identity, ...]
    containers: tuple[str, ...] = ()
    known_containers: tuple[str, ...] = ()
    docker_host: str = ""
    started: tuple[str, ...] = ()
    started_containers: tuple[str, ...] = ()
    evidence: str = ""

    def same_watch(self, marker: dict[str, Any]) -> bool:
        """Return whether a living guard, by its marker's content, already does what this configuration says."""
        own = json.loads(json.dumps(self.row()))
        return all(marker.get(name) == own[name] for name in ("incident", "lock", "watches"))

    def row(self) -> dict[str, Any]:
        """Return the marker's content without the guard's identity; a guard can be started again from its `orders`."""
        return {
            "incident": self.incident,
            "reason": self.reason,
            "since": self.since,
            "lock": self.lock,
            "watches": {"workload": asdict(self.workload), "containers": list(self.containers)},
            "orders": asdict(self),
        }

    def to_bytes(self) -> bytes:
        """Return the JSON for the pipe to the guard."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "GuardConfig":
        """Read what `to_bytes` wrote. Raises ValueError or TypeError if it is not whole."""
        return cls.of(json.loads(data))

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "GuardConfig":
        """Read the configuration from parsed JSON. Raises KeyError or TypeError if it is not whole."""
        fields["workload"] = WorkloadDescription.from_row(fields["workload"])
        for name in ("known", "containers", "known_containers", "started", "started_containers"):
            fields[name] = tuple(fields[name])
        fields["spared"] = tuple(Identity(**identity) for identity in fields["spared"])
        return cls(**fields)
