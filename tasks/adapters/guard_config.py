"""Define the guard's configuration, and what its marker says: lock, matchers, files to write (runbook §1)."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tasks.custody.containment.membership import NOTHING_NAMED, Matcher, Named
from tasks.custody.containment.process import Identity


@dataclass(frozen=True)
class GuardConfig:
    """Everything that a guard needs, as plain data: it is passed as JSON.

    `caught` is the file for newcomers. `known` are journals of processes that the incident has frozen: while a run is
    at work, by the lock in the folder `evidence`, only the run thaws and ends them. `started` are journals of processes
    that a recovery has started. `spared` are the processes that started the evacuation, and their ancestors. `named` is
    what the block names beside its patterns. `containers` is how its containers are recognised on the engine at
    `docker_host`; without any the engine is not watched.
    """

    incident: str
    reason: str
    since: str
    lock: str
    marker: str
    caught: str
    known: tuple[str, ...]
    root: str
    matchers: tuple[Matcher, ...]
    spared: tuple[Identity, ...]
    containers: tuple[str, ...] = ()
    known_containers: tuple[str, ...] = ()
    docker_host: str = ""
    started: tuple[str, ...] = ()
    started_containers: tuple[str, ...] = ()
    evidence: str = ""
    named: Named = NOTHING_NAMED

    def same_watch(self, about: dict[str, Any]) -> bool:
        """Return whether a living guard, by its marker's content, already does what this configuration says."""
        mine = self.about()
        return all(about.get(name) == mine[name] for name in ("incident", "lock", "watches"))

    def about(self) -> dict[str, Any]:
        """Return the marker's content without the guard's identity; a guard can be started again from its `orders`."""
        named = {field: list(names) for field, names in asdict(self.named).items()}
        watches = [[matcher.role, matcher.pattern, matcher.user, matcher.port] for matcher in self.matchers]
        return {
            "incident": self.incident,
            "reason": self.reason,
            "since": self.since,
            "lock": self.lock,
            "watches": {"root": self.root, "patterns": watches, "containers": list(self.containers), **named},
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
    def of(cls, told: dict[str, Any]) -> "GuardConfig":
        """Read the configuration from parsed JSON. Raises KeyError or TypeError if it is not whole."""
        told["matchers"] = tuple(Matcher(**matcher) for matcher in told["matchers"])
        for name in ("known", "containers", "known_containers", "started", "started_containers"):
            told[name] = tuple(told[name])
        told["named"] = Named.of(told["named"])
        told["spared"] = tuple(Identity(**identity) for identity in told["spared"])
        return cls(**told)
