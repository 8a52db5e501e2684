"""§5: claim an incident in the store, so that no other host or incident of the same id writes into its folder."""

from tasks.custody.errors import Conflict
from tasks.custody.evidence.keys import claim_key
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.objects import claim_bytes
from tasks.runtime.context import RunContext


def claim(context: RunContext) -> None:
    """Create the incident's first object, its claim: host, boot, workload and time. Does nothing if it is ours already.

    Raises Conflict if somebody else has claimed this id; the incident is then left open on this host alone.
    """
    content = claim_bytes(context.incident, context.store.evidence.place)
    try:
        context.store.evidence.create(claim_key(context.incident.id), content, digest_bytes(content))
    except Conflict as conflict:
        context.state.claimed.write(str(conflict))
        raise
