"""The laws that every store keeps, whatever it is made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from blocks.port import StoredObject
from tasks.custody.errors import Conflict, PermanentStoreError, StoreError, TransientStoreError
from tasks.custody.evidence.keys import LATEST
from tasks.custody.evidence.parts import Parts


def require_key(key: str) -> str:
    """Return a key that means the same thing in every store, else refuse it.

    Segments of printable ASCII without backslash, none of them empty, "." or "..".
    """
    plain = key.isascii() and key.isprintable() and "\\" not in key
    if plain and all(segment not in {"", ".", ".."} for segment in key.split("/")):
        return key
    raise PermanentStoreError(
        "a key of plain segments divided by '/'",
        repr(key[:200]),
        "Nothing was read or written.",
        "Make keys with the functions of tasks.custody.evidence.keys.",
    )


def require_removable(key: str) -> str:
    """Refuse to delete anywhere but in latest/."""
    if key.startswith(LATEST):
        return require_key(key)
    raise PermanentStoreError(f"a key below {LATEST}", key[:200], "Nothing was deleted.", "Evidence is never deleted.")


def require_digest(key: str, got: str, sha256: str) -> None:
    """Refuse content that is not what the caller says it is, before anybody can see it under its key."""
    if got != sha256:
        raise PermanentStoreError(
            f"content with sha256 {sha256} for {key}",
            f"sha256 {got}",
            "Nothing was stored under this key.",
            "The source changed after it was hashed: compare it with its manifest.",
        )


def read_source(source: Path | bytes) -> bytes:
    """All of a small source in memory, so that what is hashed is what is sent."""
    try:
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(source: Path | bytes, error: OSError) -> StoreError:
    """The file to store could not be read: no store can mend that."""
    return PermanentStoreError(
        f"a readable file {source!s}",
        error.strerror or str(error),
        "Nothing was stored.",
        "Restore the file, or its permissions, from the sealed evidence.",
    )


@contextmanager
def opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    """A source to stream from."""
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise unreadable(source, error) from error
    with file:
        yield file


def settled(place: str, key: str, found: StoredObject | None, sha256: str, parts: Parts | None = None) -> bool:
    """Whether a key has this content: False if it has none; with other content it is a conflict, never overwritten."""
    if found is None:
        return False
    if not found.agrees(sha256, parts):
        raise Conflict(
            f"sha256 {sha256} at {key} in {place}",
            f"an object with {_digest_of(found)}",
            "It was not overwritten.",
            "Keep both for the investigation: compare the object with the file, and ask who wrote it.",
        )
    return True


def _digest_of(found: StoredObject) -> str:
    if found.sha256:
        return f"sha256 {found.sha256}"
    return (
        f"the composite sha256 {found.composite} of its parts" if found.composite else "a sha256 that it doesn't tell"
    )


def vanished(place: str, key: str) -> StoreError:
    """The store refused to create a key because it exists, and then has no such object."""
    return TransientStoreError(
        f"{key} in {place}, which the store said exists", "no such object", "Nothing was stored.", "Try again."
    )


def absent(place: str, key: str) -> StoreError:
    """The error for reading what is not there."""
    return PermanentStoreError(
        f"an object {key} in {place}", "none", "Nothing was read.", "List the place, and check the incident id."
    )
