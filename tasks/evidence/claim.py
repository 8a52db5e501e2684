"""§5: claim an incident in the store, so that no other host or incident of the same id writes into its folder."""

import json
from typing import Final

from tasks.custody.errors import Conflict
from tasks.custody.incident.incident import Incident
from tasks.custody.store.objects import Expected, claim_bytes, claim_object, one_object
from tasks.evidence.beside import create_or_beside
from tasks.runtime.context import RunContext

_LIMIT: Final = 1 << 16


def claim(context: RunContext) -> Expected:
    """Create the incident's first object, its claim: host, boot, workload and time. Does nothing if it is ours already.

    Raises Conflict if another host or workload has claimed this id; the incident is then left open on this host alone.
    What lies there and is no such claim is answered by a claim beside it. Returns the object that was created.
    """
    store, incident = context.store.evidence, context.incident
    content = claim_bytes(incident, store.place)
    item = claim_object(incident, store.place)
    try:
        store.create(item.key, content, item.sha256)
    except Conflict as conflict:
        if _is_anothers(store.read(item.key, _LIMIT), incident):
            context.state.claimed.write(str(conflict))
            raise
        return one_object(create_or_beside(context, item, content), item.size, item.sha256)
    return item


def _is_anothers(data: bytes, incident: Incident) -> bool:
    """Return whether this is a claim of the incident's id by another host or workload."""
    try:
        said = json.loads(data)
        claimed = str(said["incident"]), str(said["host"]), str(said["workload"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return claimed[0] == incident.id and claimed != (incident.id, incident.host, incident.workload)
