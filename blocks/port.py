"""Define the store as the steps see it: one small interface, whatever lies behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from tasks.custody.evidence.parts import Parts
from tasks.custody.store.promises import Promises

PIECE: Final = 1 << 20
"""Bytes of one piece of a stream, at most."""


@dataclass(frozen=True)
class StoredObject:
    """What the store itself says of an object. `sha256` is hex, None where the store keeps no digest of the whole.

    `composite` is then its digest of the parts that came, as `Parts` has it, if it keeps that.
    `lock` and `retained_until` say in which mode ("governance" or "compliance") and until when nobody may delete it,
    `held` whether it is under legal hold, as far as the store tells; a listing does not. `modified` is when it was
    written, where the store tells that.
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
        """Whether the store's own word is that of this content; a digest of the whole counts before one of parts."""
        return self.sha256 == sha256 if self.sha256 else parts is not None and self.composite == parts.composite

    def says(self, sha256: str, parts: Parts | None = None) -> str | None:
        """The store's own digest of the content: by its word on the parts the expected one; None if it tells none."""
        return self.sha256 or (sha256 if self.agrees(sha256, parts) else None)


def untold(size: int) -> None:
    """Nobody wants to know how far it is."""


class Store(Protocol):
    """Keys are relative to the store's place. Errors are TransientStoreError, PermanentStoreError or Conflict."""

    @property
    def place(self) -> str:
        """Where it is, for people: s3://bucket/prefix or a folder."""

    def unfit(self) -> str:
        """Why objects cannot be retained here as the store's block asks; empty if they can, or if nothing is asked."""

    def promises(self) -> Promises:
        """What this store was seen to do, tried once, on objects of no value, before anything is created."""

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = untold,
    ) -> None:
        """Create an object whose digest the store checks while it takes it.

        Never overwrites: the same key with the same digest is done already, with another one it is a Conflict. What is
        created is retained as the block asks, also what was there already; nothing is ever shortened. A large file goes
        in `parts`; what the store has kept of them from an earlier try is not sent again. `tell` hears of the bytes of
        each part that was sent.
        """

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """Whether this content is at the key; if so it is retained as the block asks. Other content is a Conflict."""

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Copy inside the store. Creates like `create`; `replace` (for latest/ only) may overwrite, retains nothing."""

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Remove this content from latest/, and never anything else: the only deletion that there is.

        Nothing at the key is done already; other content is a Conflict.
        """

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """End what broken-off creations under a prefix have left, and say of which keys. No object is touched."""

    def head(self, key: str) -> StoredObject | None:
        """The object as the store's own digest describes it, None if there is none."""

    def read(self, key: str) -> bytes:
        """The content of a small object."""

    def stream(self, key: str) -> Iterator[bytes]:
        """The content of an object of any size, piece by piece and as it is: whoever reads it hashes it."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects under a prefix, sorted by key; digests may be None here."""


@runtime_checkable
class Versioned(Protocol):
    """A store that may remember what was overwritten or deleted."""

    def rewritten(self, prefix: str) -> Mapping[str, int] | None:
        """How often each key under a prefix was written or deleted, if more than once.

        None if the store keeps no versions: then an overwriting leaves no trace.
        """
