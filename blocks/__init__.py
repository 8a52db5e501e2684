"""Configuration as Prefect blocks, and one interface for every evidence store. Knows no step of the runbook."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocks.fleet import Fleet
    from blocks.signing_key import SigningKey
    from blocks.store import EvidenceStore
    from blocks.workload import Workload

__all__ = ["EvidenceStore", "Fleet", "SigningKey", "Workload"]

_HOMES = {
    "EvidenceStore": "blocks.store",
    "Fleet": "blocks.fleet",
    "SigningKey": "blocks.signing_key",
    "Workload": "blocks.workload",
}


def __getattr__(name: str) -> Any:
    """Import a block's module on first use (PEP 562): prefect-aws and boto3 would delay containment."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the names that `prefect block register -m blocks` registers."""
    return [*globals(), *__all__]
