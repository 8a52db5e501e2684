"""Reading a bucket that may be forged: side by side, in bounded memory, and never more of an object than was named."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from tasks.custody.audit.finding import Finding, unclear
from tasks.custody.audit.layout import Layout, laid_out, listings
from tasks.custody.audit.promise import Promise, Seen
from tasks.custody.errors import StoreError
from tasks.custody.store.rows import BYTES_LIMIT

if TYPE_CHECKING:
    from blocks.port import Store

A = TypeVar("A")
B = TypeVar("B")

THREADS: Final = 16
"""Contents at a time: each of them may have some MiB in memory."""
QUESTIONS: Final = 64
"""Requests at a time that carry next to nothing: over a network they do little but wait for their answer."""
_AHEAD: Final = 1024
_TOGETHER, _ROUNDS = 16, 4
"""How many a thread takes at once, where there are so many times as many as threads: each handing over costs."""
KEYS_LIMIT: Final = 2_000_000
DOCUMENT_LIMIT: Final = 32 << 20
DOCUMENTS_LIMIT: Final = 192 << 20
"""Of documents that are parsed as a whole, which takes ten times as much. Manifests have a limit of their own."""


def side_by_side(act: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """Do it for many, in their order; only a thousand are begun ahead. The first error ends it, and begins no more."""
    few = max(1, min(_TOGETHER, len(items) // threads // _ROUNDS)) if isinstance(items, Sized) else 1
    source, failures = iter(items), list[BaseException]()

    def unless_failed(item: A) -> B:
        """What is left out fails as the first did: one that came before it may not have got as far as its act."""
        if failures:
            raise failures[0]
        try:
            return act(item)
        except BaseException as error:
            failures.append(error)
            raise

    def together(some: list[A]) -> list[B]:
        return [unless_failed(item) for item in some]

    batches = iter(lambda: [*islice(source, few)], [])
    with ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(together, some) for some in islice(batches, _AHEAD // few))
        try:
            while begun:
                yield from begun.popleft().result()
                begun.extend(pool.submit(together, some) for some in islice(batches, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def keys_of(store: "Store", incident: str) -> tuple[Layout, dict[str, int]]:
    """Everything that belongs to the incident, with the sizes that the listing gives."""
    found = {each.key: each.size for prefix in listings(incident) for each in islice(store.list(prefix), KEYS_LIMIT)}
    layout = laid_out(incident, found)
    return layout, {key: size for key, size in found.items() if layout.owns(key)}


def fetch(store: "Store", key: str, limit: int) -> bytes:
    """A document, or its first bytes and some more if it is longer than the listing says."""
    content = bytearray()
    for piece in store.stream(key):
        content += piece
        if len(content) > limit:
            break
    return bytes(content)


def read_documents(store: "Store", layout: Layout, keys: Mapping[str, int]) -> tuple[dict[str, bytes], list[Finding]]:
    """The content of the documents that are there, and what could not be read of them."""
    wanted, troubles = _affordable(layout, keys)

    def read(key: str) -> bytes | Finding:
        try:
            content = fetch(store, key, keys[key])
        except StoreError as error:
            return unclear(key, "it could not be read", error.expected, error.got)
        if len(content) > keys[key]:
            return unclear(key, "it is longer than the listing says", f"{keys[key]} bytes", "more")
        return content

    documents = dict[str, bytes]()
    for key, content in zip(wanted, side_by_side(read, wanted), strict=True):
        if isinstance(content, Finding):
            troubles.append(content)
        else:
            documents[key] = content
    return documents, troubles


def _affordable(layout: Layout, keys: Mapping[str, int]) -> tuple[list[str], list[Finding]]:
    """What fits into memory, in the order of what an audit needs first."""
    wanted, troubles = list[str](), list[Finding]()
    room = {False: DOCUMENTS_LIMIT, True: BYTES_LIMIT}
    manifests = {*map(layout.manifest, layout.volumes)}
    for key in (key for key in layout.documents if key in keys):
        listed, left = key in manifests, room[key in manifests]
        if keys[key] > (left if listed else min(DOCUMENT_LIMIT, left)):
            troubles.append(unclear(key, "it is too large to be read as a document", f"{left} bytes", f"{keys[key]}"))
        else:
            wanted.append(key)
            room[listed] -= keys[key]
    return wanted, troubles


def see(store: "Store", promise: Promise, read: str | None, *, deep: bool) -> Seen:
    """What the store says of one object; its bytes are hashed if that proves nothing, or if all are to be."""
    try:
        there = store.look(promise.key)
        if there is None:
            return Seen(promise.key, there=False)
        told = there.sha256 is not None or (there.composite != "" and there.composite == promise.composite)
        if read is None and (deep or not told):
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


def read_back(store: "Store", key: str, size: int) -> str:
    """The digest of what comes; where more comes than was named the rest is not waited for, and the digest differs."""
    seen, count = hashlib.sha256(), 0
    for piece in store.stream(key):
        seen.update(piece)
        count += len(piece)
        if count > size:
            break
    return seen.hexdigest()
