"""§6: prove that the store has an object as it was sent. That it said so when it took it proves nothing."""

from collections.abc import Sequence
from dataclasses import replace

from blocks.port import Store, StoredObject
from tasks.custody.errors import TransientStoreError
from tasks.custody.evidence.keys import beside_key
from tasks.custody.incident.incident import Incident
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.objects import Expected, one_object
from tasks.custody.store.receipts import NOT_THERE, ObjectReceipt
from tasks.custody.store.retention import NOTHING, Retention
from tasks.runtime.store_access import StoreAccess
from tasks.storage.untrusted_reads import read_back
from tasks.system.parallel import THREADS, side_by_side


def prove(
    access: StoreAccess, incident: Incident, item: Expected, retention: Retention = NOTHING, *, deep: bool = False
) -> ObjectReceipt:
    """Prove one object by the store's own digest, and check that it is retained as asked.

    Reads every byte back and hashes it if the store has no comparable digest, or if `deep`. Where other content lies at
    its key, what was sealed is looked for beside it.
    """
    store, key = access.evidence, beside_key(incident.id, item.sha256)
    there = store.head(item.key)
    reason, read = _differs(store, item, there, deep=deep)
    if there and reason and item.key != key:
        beside = replace(item, folder=key.removesuffix(item.sha256), name=item.sha256)
        if (found := prove(access, incident, beside, retention, deep=deep)).proven:
            why = f"other content lies there; what was sealed is at {key}"
            return replace(found, key=item.key, proven=False, reason=why, beside=key)
    if there and not reason:
        reason = retention.lacking(there.lock, there.retained_until, held=there.held, since=incident.opened_at)
    promises = store.promises()
    if there and not reason and retention.lock and not promises.trusts_locks:
        reason = f"{retention.lock} was asked, and this store was not seen to keep a lock"
    exclusive = promises.exclusive(item.size, divided=item.parts is not None)
    return ObjectReceipt(
        item.key, item.sha256, item.size, proven=not reason, reason=reason, read=read, exclusive=exclusive
    )


def create_kept(store: Store, key: str, data: bytes) -> str:
    """Create a small object, and ask the store again for it. Return its digest. Raises StoreError."""
    sha256 = digest_bytes(data)
    store.create(key, data, sha256)
    require_kept(store, [one_object(key, len(data), sha256)])
    return sha256


def require_kept(store: Store, sent: Sequence[Expected]) -> None:
    """Ask the store again for small objects. Raises TransientStoreError for the first that it has not kept as sent."""
    reasons = side_by_side(lambda item: _differs(store, item, store.head(item.key), deep=False)[0], sent, THREADS)
    for item, reason in zip(sent, reasons, strict=True):
        if reason:
            raise TransientStoreError(
                f"{item.key} in {store.place}, which the store said it took",
                reason,
                "It is not proven to be there.",
                "Ask who runs the store, or a proxy before it, why it was not kept; then run this again.",
            )


def _differs(store: Store, item: Expected, there: StoredObject | None, *, deep: bool) -> tuple[str, bool]:
    """Return why the object differs from what was sealed (empty if it does not), and whether its bytes were read."""
    if there is None:
        return NOT_THERE, False
    if item.parts and not there.sha256 and item.parts.contradicted_by(there.composite):
        return f"the store says {there.composite} of its parts; sealed as {item.parts.composite}", False
    sha256 = there.says(item.sha256, item.parts)
    if (sha256 or item.sha256, there.size) != (item.sha256, item.size):
        answer = f"the store says sha256 {sha256}, {there.size} bytes"
        return f"{answer}; sealed as {item.sha256}, {item.size} bytes", False
    if sha256 and not deep:
        return "", False
    got = read_back(store, item.key, item.size)
    return ("" if got == item.sha256 else f"what the store gives back has sha256 {got}; sealed as {item.sha256}"), True
