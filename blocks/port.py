"""The store as the verbs see it: one small interface, whatever lies behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoredObject:
    """What the store itself says of an object. `sha256` is hex, None where the store keeps no digest."""

    key: str
    size: int
    sha256: str | None


class Store(Protocol):
    """Keys are relative to the store's place. Errors are TransientStoreError, PermanentStoreError or Conflict."""

    @property
    def place(self) -> str:
        """Where it is, for people: s3://bucket/prefix or a folder."""

    def create(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Create an object whose digest the store checks while it takes it.

        Never overwrites: the same key with the same digest is done already, with another one it is a Conflict.
        """

    def copy(self, source: str, key: str, sha256: str, *, replace: bool = False) -> None:
        """Copy inside the store. Creates like `create`; `replace` (for latest/ only) may overwrite."""

    def look(self, key: str) -> StoredObject | None:
        """The object as the store's own digest describes it, None if there is none."""

    def read(self, key: str) -> bytes:
        """The content of a small object."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects under a prefix, sorted by key; digests may be None here."""
