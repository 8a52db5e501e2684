"""Define the interface of a store that the steps use, and the object descriptions that it returns.

See docs/adr/0006.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.promises import Promises
from tasks.custody.store.silence import StoreSilence

CANARIES: Final = ".evacuation-canary/"
"""Key prefix below the store's prefix. Its objects may be removed at any time; no listing has them."""
PIECE: Final = 1 << 20
"""Maximum bytes of one piece of a stream."""


@dataclass(frozen=True)
class StoredObject:
    """An object as the store describes it. `sha256` is hexadecimal; None if the store keeps no digest of the whole.

    `composite` is the store's digest of the uploaded parts (as in `Parts`), if it keeps one. `lock` is the lock mode
    ("governance" or "compliance"), `retained_until` when it ends, `held` whether there is a legal hold, and `modified`
    when the object was written: as far as the store reports them. A listing reports no locks.
    """

    key: str
    size: int
    sha256: str | None
    retained_until: datetime | None = None
    held: bool = False
    lock: str = ""
    composite: str = ""
    modified: datetime | None = field(default=None, compare=False)

    def agrees(self, sha256: str, parts: Parts | None = None) -> bool:
        """Return whether the store's digest is that of this content. A digest of the whole precedes `composite`."""
        return self.sha256 == sha256 if self.sha256 else parts is not None and self.composite == parts.composite

    def says(self, sha256: str, parts: Parts | None = None) -> str | None:
        """Return the digest by the store's word; `sha256` if its digest of the parts agrees, None if it cannot tell."""
        return self.sha256 or (sha256 if self.agrees(sha256, parts) else None)


Tell: TypeAlias = Callable[[int], object]
"""Is called with the number of bytes of each part that was sent."""


def ignore_progress(size: int) -> None:
    """Ignore a progress report: the default of `tell`."""


class Store(Protocol):
    """An evidence store. Keys are relative to its place.

    Errors are TransientStoreError, PermanentStoreError or Conflict.
    """

    @property
    def place(self) -> str:
        """The location for people: s3://bucket/prefix or a folder."""

    def unfit(self) -> str:
        """Return why objects cannot be retained as the store's block asks; empty if they can, or if it asks nothing."""

    def promises(self) -> Promises:
        """Return what this store was seen to guarantee. Tried once, on canary objects, before anything is created."""

    def create(
        self, key: str, source: Path | bytes, sha256: str, parts: Parts | None = None, tell: Tell = ignore_progress
    ) -> None:
        """Create an object. The store checks the digest while it receives the content.

        Never overwrites: an object with the same digest is a success, other content a Conflict. The object is retained
        as the block asks, also one that exists; retention is never shortened. A large file is sent in `parts`; parts
        that the store kept from an earlier try are not sent again. `tell` is called with the number of bytes of each
        part sent.
        """

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """Return whether this content is at the key, and retain it as the block asks. Other content is a Conflict."""

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Copy inside the store, by the rules of `create`. `replace` (only for latest/) overwrites, retains nothing."""

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Remove this content from latest/: the only deletion that a store offers.

        Nothing at the key is a success; other content is a Conflict.
        """

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """Abort unfinished uploads under a prefix and return their keys. Changes no object."""

    def head(self, key: str) -> StoredObject | None:
        """Return the object with the store's own digest, None if there is none."""

    def read(self, key: str, limit: int | None = None) -> bytes:
        """Return the content of a small object, or its first `limit` bytes, not compared with any digest."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the content of an object of any size, not compared with any digest: the reader has to hash it."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all objects under a prefix, sorted by key. Digests may be None."""

    def list_folder(self, prefix: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        """Return what lies directly below a prefix that ends in "/": objects, and prefixes of those that lie deeper.

        Both are sorted. There may be no object below a prefix.
        """


@runtime_checkable
class Versioned(Protocol):
    """A store that may keep versions of overwritten or deleted objects."""

    def count_versions(self, prefix: str) -> Mapping[str, int] | None:
        """Return how often each key under a prefix was written or deleted, for keys with more than one.

        None if the store keeps no versions, so that overwriting leaves no trace.
        """


@runtime_checkable
class Answering(Protocol):
    """A store behind a network, which may be silent."""

    @property
    def has_answered(self) -> bool:
        """Whether it has answered anything at all, be it that it cannot."""

    def find_silence(self) -> StoreSilence | None:
        """Return what the store has not answered, None if it answers. Asks nothing."""


@runtime_checkable
class Probed(Protocol):
    """A store that can be tried by writing one small object that belongs to no incident."""

    def probe(self, name: str, data: bytes) -> StoredObject | None:
        """Replace the canary of this name by `data`; return it as the store describes it. Deletes nothing."""
