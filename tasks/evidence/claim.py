"""§5: claim an incident in the store, so that no other host or incident of the same id writes into its folder.

See docs/adr/0007.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from blocks.port import Store
from tasks.custody.errors import Conflict, PermanentStoreError
from tasks.custody.evidence.keys import claim_key
from tasks.custody.incident.incident import Incident
from tasks.custody.store.objects import Expected, claim_bytes, claim_object, one_object
from tasks.custody.visible import visible
from tasks.evidence.beside import create_or_beside
from tasks.runtime.state import IncidentState
from tasks.runtime.store_access import StoreAccess
from tasks.system.parallel import QUESTIONS, side_by_side

_LIMIT: Final = 1 << 16
_NEWEST: Final = 50
_SHOWN: Final = 200
UNSHARE: Final = (
    'Unless they are copies of one service, give each a folder or prefix of its own, or latest = "never" '
    "latest/ を共有。フォルダーか prefix を分けてください"
)


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
        owner = _owner(store.read(item.key, _LIMIT), incident.id)
        if owner and owner != (incident.host, incident.workload):
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


def other_workloads(store: Store, workload: str) -> tuple[str, ...]:
    """Return whose incidents lie in the store beside this workload's, by the claims of the newest 50.

    Copies of one service on several hosts have one name. Raises StoreError.
    """
    _, folders = store.list_folder("incidents/")

    def read_owner(folder: str) -> tuple[str, str] | None:
        with suppress(PermanentStoreError):  # one that was never claimed, or is no incident
            return _owner(store.read(claim_key(incident := folder.split("/")[1]), _LIMIT), incident)
        return None

    owners = dict.fromkeys(filter(None, side_by_side(read_owner, folders[-_NEWEST:], QUESTIONS)))
    return tuple(visible(f"{name} on {host}", _SHOWN) for host, name in owners if name != workload)


def name_sharing(others: Sequence[str], place: str) -> str:
    """Return what it means that other workloads' incidents lie in the store too; the cure is `UNSHARE`."""
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"{place} is also of {others[0]}{more}, by the incidents in it: latest/ is shared, each file is the last's"


def _owner(data: bytes, incident: str) -> tuple[str, str] | None:
    """Return host and workload of an incident's claim; None if this is no claim of it."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        fields = json.loads(data)
        claimed = str(fields["incident"]), str(fields["host"]), str(fields["workload"])
        return claimed[1:] if claimed[0] == incident else None
    return None
