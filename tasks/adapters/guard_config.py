"""Define what a guard is told, and what its marker says: lock, matchers, files to write (runbook §1)."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tasks.custody.containment.membership import NOTHING_NAMED, Matcher, Named
from tasks.custody.containment.process import Identity


@dataclass(frozen=True)
class GuardConfig:
    """Everything that a guard needs, as plain data: it is handed over as JSON.

    `caught` is the file that newcomers are written to. `known` are journals of processes that the incident has frozen:
    as long as a run is at work, by the lock in the folder `evidence`, they are its to thaw and to end. `started` are
    journals of processes that a recovery has started. `spared` are whoever started the evacuation, and their ancestors.
    `named` is what the block names beside its patterns. `containers` is how its containers are recognised on the engine
    at `docker_host`; without any it is not watched.
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
        """Whether a standing guard, by what its marker says, already does what these orders ask for."""
        mine = self.about()
        return all(about.get(name) == mine[name] for name in ("incident", "lock", "watches"))

    def about(self) -> dict[str, Any]:
        """The marker's content, but for the guard's own identity; by its `orders` a guard is started again."""
        watches = [[matcher.role, matcher.pattern, matcher.user, matcher.port] for matcher in self.matchers]
        return {
            "incident": self.incident,
            "reason": self.reason,
            "since": self.since,
            "lock": self.lock,
            "watches": {"root": self.root, "patterns": watches, "containers": list(self.containers), **self._named},
            "orders": asdict(self),
        }

    @property
    def _named(self) -> dict[str, list[str]]:
        """As far as the block names any: a guard of an older version, which knows of none, then watches the same."""
        return {field: list(names) for field, names in asdict(self.named).items() if names}

    def to_bytes(self) -> bytes:
        """For the pipe to the guard."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "GuardConfig":
        """What came through the pipe. ValueError or TypeError if it is not whole."""
        return cls.of(json.loads(data))

    @classmethod
    def of(cls, told: dict[str, Any]) -> "GuardConfig":
        """Read the orders from what JSON made of them. KeyError or TypeError if they are not whole."""
        told["matchers"] = tuple(Matcher(**matcher) for matcher in told["matchers"])
        for name in ("known", "containers", "known_containers", "started", "started_containers"):
            told[name] = tuple(told[name])
        told["named"] = Named.of(told["named"])
        told["spared"] = tuple(Identity(**identity) for identity in told["spared"])
        return cls(**told)
