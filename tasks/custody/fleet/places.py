"""Tell where a host's objects lie beside those of its fleet, in one bucket or folder."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

HOSTS: Final = "hosts.json"
"""In a fleet's record: a line for each host, with its end, times, last closing and manifests."""


def place_of(fleet: Mapping[str, Any], host: Mapping[str, Any]) -> str | None:
    """Return where a host's store lies in the fleet's bucket or folder, by the fields of both blocks; None if not."""
    if fleet.get("bucket"):
        same = all((fleet.get(name) or None) == (host.get(name) or None) for name in ("bucket", "endpoint"))
        return str(host.get("prefix") or "") if same else None
    if not fleet.get("folder") or not host.get("folder"):
        return None
    inner, outer = PurePosixPath(str(host["folder"])), PurePosixPath(str(fleet["folder"]))
    return "/".join(inner.relative_to(outer).parts) if inner.is_relative_to(outer) else None


def key_at(beneath: str, key: str) -> str:
    """Return a key of a host's store as a key of the fleet's bucket or folder."""
    return f"{beneath}/{key}" if beneath else key
