"""§5: create an object; where other content lies at its key, beside it: one wrong object costs no other."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from blocks.port import ignore_progress
from tasks.custody.errors import Conflict
from tasks.custody.evidence.keys import beside_key
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.objects import Expected
from tasks.runtime.store_access import StoreAccess


def create_or_beside(
    store: StoreAccess,
    incident: str,
    item: Expected,
    source: Path | bytes,
    tell: Callable[[int], object] = ignore_progress,
) -> str:
    """Create an object at its key or, if other content lies there, at the one beside it; return which.

    If both keys have other content the object is nowhere, which a look at the store finds. Raises StoreError.
    """
    create = store.evidence.create
    try:
        create(item.key, source, item.sha256, item.parts, tell)
    except Conflict as conflict:
        key = displace(store.log, incident, item, conflict)
        with suppress(Conflict):
            create(key, source, item.sha256, item.parts, tell)
        return key
    return item.key


def displace(log: CustodyLog, incident: str, item: Expected, conflict: Conflict) -> str:
    """Log that other content lies at an object's key, and return the key beside it."""
    key = beside_key(incident, item.sha256)
    log.write("conflict", item.key, sealed=item.sha256, reason=conflict.got, result=f"sent to {key}")
    return key
