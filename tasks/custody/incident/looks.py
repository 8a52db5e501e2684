"""Read from the custody log what was frozen, and what of it a collector has looked at."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tasks.custody.incident.steps import step_of

_FREEZES: Final = frozenset({"frozen", "container paused"})


def frozen_in(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the pids and container ids that these entries say were frozen."""
    return frozenset(str(entry["object"]) for entry in entries if entry["action"] in _FREEZES)


def looked_at(entries: Iterable[Mapping[str, Any]], collector: str) -> frozenset[str]:
    """Return the pids and container ids that were frozen before a complete attempt of this collector."""
    frozen, seen = set[str](), frozenset[str]()
    for entry in entries:
        if entry["action"] in _FREEZES:
            frozen.add(str(entry["object"]))
        elif entry["action"] == "step done" and step_of(entry) == ("collect", collector):
            seen = frozenset(frozen)
    return seen
