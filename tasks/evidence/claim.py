"""§5: claim an incident in the store, so that no other host or incident of the same id writes into its folder.

See docs/adr/0007.
"""

import json
from typing import Final

from tasks.custody.errors import Conflict
from tasks.custody.incident.incident import Incident
from tasks.custody.store.objects import Expected, claim_bytes, claim_object, one_object
from tasks.evidence.beside import create_or_beside
from tasks.runtime.state import IncidentState
from tasks.runtime.store_access import StoreAccess

_LIMIT: Final = 1 << 16


def claim(access: StoreAccess, incident: Incident, state: IncidentState) -> Expected:
    """Create the incident's first object, its claim: host, boot, workload and time. Does nothing if it is ours already.

    Raises Conflict if another host or workload has claimed this id; the incident is then left open on this host alone.
    What lies there and is no such claim is answered by a claim beside it. Returns the object that was created.
    """
    store = access.evidence
    content, item = claim_bytes(incident, store.place), claim_object(incident, store.place)
    try:
        store.create(item.key, content, item.sha256)
    except Conflict as conflict:
        if owner := _other_owner(store.read(item.key, _LIMIT), incident):
            host, workload = owner
            suffix = incident.workload if host == incident.host else incident.host.partition(".")[0]
            refused = Conflict(
                f"{incident.id} at {store.place} to be of {incident.workload} on {incident.host}",
                f"the claim of {workload} on {host}",
                "Nothing of it is sent; the run goes on, on this host alone. "
                "同じ ID を別のホストが使用中のため送信しない。",
                f'Set incident_suffix = "{suffix.lower()}" in the workload block and run it again without an id: this '
                "look goes along. incident_suffix を設定し、ID なしで再実行する。",
            )
            state.claimed.write(str(refused))
            raise refused from conflict
        return one_object(create_or_beside(access, incident.id, item, content), item.size, item.sha256)
    return item


def _other_owner(data: bytes, incident: Incident) -> tuple[str, str] | None:
    """Return host and workload of a claim of the incident's id by another; None if this is no such claim."""
    try:
        fields = json.loads(data)
        claimed = str(fields["incident"]), str(fields["host"]), str(fields["workload"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    other = claimed[0] == incident.id and claimed[1:] != (incident.host, incident.workload)
    return claimed[1:] if other else None
