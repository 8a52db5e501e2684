"""Read a bucket that may be forged: in parallel, in bounded memory, and no more bytes of an object than expected."""

import hashlib
from collections.abc import Mapping
from itertools import islice
from typing import Final

from blocks.port import PIECE, Store
from tasks.custody.audit.finding import AuditFinding, unclear
from tasks.custody.audit.layout import Layout, layout_of, listings
from tasks.custody.audit.promise import Promise, Seen
from tasks.custody.errors import StoreError
from tasks.custody.store.rows import BYTES_LIMIT
from tasks.system.parallel import side_by_side

KEYS_LIMIT: Final = 2_000_000
DOCUMENT_LIMIT: Final = 32 << 20
DOCUMENTS_LIMIT: Final = 192 << 20
"""Limit for documents, which are parsed in ten times the memory. Manifests have their own limit."""


def keys_of(store: Store, incident: str) -> tuple[Layout, dict[str, int], list[AuditFinding]]:
    """Return the layout of an incident in the store, and the listed size of each of its keys.

    A finding names each place of which not all was listed.
    """
    found, cut = dict[str, int](), list[AuditFinding]()
    for prefix in listings(incident):
        listed = iter(store.list(prefix))
        found.update((each.key, each.size) for each in islice(listed, KEYS_LIMIT))
        if next(listed, None):
            cut.append(unclear(prefix, "not all of it was listed", f"{KEYS_LIMIT} objects at most", "more"))
    layout = layout_of(incident, found)
    return layout, {key: size for key, size in found.items() if layout.owns(key)}, cut


def fetch(store: Store, key: str, limit: int) -> bytes:
    """Read at most `limit` bytes of a document and one piece more, so that an oversized one is noticed."""
    if limit <= PIECE:
        return store.read(key, limit + 1)
    content = bytearray()
    for piece in store.stream(key):
        content += piece
        if len(content) > limit:
            break
    return bytes(content)


def read_documents(
    store: Store, layout: Layout, keys: Mapping[str, int]
) -> tuple[dict[str, bytes], list[AuditFinding]]:
    """Read the documents that exist and fit into memory, and return findings for those that cannot be read."""
    affordable, troubles = dict[str, int](), list[AuditFinding]()
    room = {False: DOCUMENTS_LIMIT, True: BYTES_LIMIT}
    manifests = {*map(layout.manifest, layout.volumes)}
    for key in (key for key in layout.documents if key in keys):  # in the order in which an audit needs them
        listed, remaining, size = key in manifests, room[key in manifests], keys[key]
        if size > (remaining if listed else min(DOCUMENT_LIMIT, remaining)):
            troubles.append(unclear(key, "it is too large to be read as a document", f"{remaining} bytes", f"{size}"))
        else:
            affordable[key] = size
            room[listed] -= size
    documents, unread = read_each(store, affordable)
    return documents, troubles + unread


def read_each(store: Store, limits: Mapping[str, int]) -> tuple[dict[str, bytes], list[AuditFinding]]:
    """Read objects side by side, none longer than it may be, and return findings for those that are or fail."""

    def read(key: str) -> bytes | AuditFinding:
        try:
            content = fetch(store, key, limits[key])
        except StoreError as error:
            return unclear(key, "it could not be read", error.expected, error.got)
        if len(content) > limits[key]:
            return unclear(key, "it is longer than the listing says", f"{limits[key]} bytes", "more")
        return content

    documents, troubles = dict[str, bytes](), list[AuditFinding]()
    for key, content in zip(limits, side_by_side(read, list(limits)), strict=True):
        if isinstance(content, AuditFinding):
            troubles.append(content)
        else:
            documents[key] = content
    return documents, troubles


def see(store: Store, promise: Promise, read: str | None, *, deep: bool) -> Seen:
    """Ask the store about one object. Hashes its bytes if the store's digest proves nothing, or if `deep`."""
    try:
        there = store.head(promise.key)
        if there is None:
            return Seen(promise.key, there=False)
        is_proven = there.sha256 is not None or (there.composite != "" and there.composite == promise.composite)
        if read is None and (deep or not is_proven):
            read = read_back(store, promise.key, there.size if promise.size is None else promise.size)
    except StoreError as error:
        return Seen(promise.key, there=True, trouble=str(error))
    return Seen(
        promise.key,
        there=True,
        size=there.size,
        sha256=there.sha256,
        read=read,
        retained_until=there.retained_until,
        held=there.held,
        lock=there.lock,
        composite=there.composite,
    )


def read_back(store: Store, key: str, size: int) -> str:
    """Hash an object's bytes. Stops reading past `size`; the digest then differs."""
    digest, count = hashlib.sha256(), 0
    for piece in store.stream(key):
        digest.update(piece)
        count += len(piece)
        if count > size:
            break
    return digest.hexdigest()
