"""Rules and errors that every store shares."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from blocks.port import StoredObject
from tasks.custody.errors import Conflict, PermanentStoreError, StoreError, TransientStoreError
from tasks.custody.evidence.keys import LATEST
from tasks.custody.evidence.part_sizes import Parts


def require_key(key: str) -> str:
    """Return the key if every store reads it alike. Raises PermanentStoreError otherwise.

    Segments are printable ASCII without backslash; none is empty, "." or "..".
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
    """Return a key of latest/, the only place where deleting is allowed. Raises PermanentStoreError for other keys."""
    if key.startswith(LATEST):
        return require_key(key)
    raise PermanentStoreError(f"a key below {LATEST}", key[:200], "Nothing was deleted.", "Evidence is never deleted.")


def require_digest(key: str, got: str, sha256: str) -> None:
    """Raise PermanentStoreError if the content's digest is not `sha256`. Called before the object is visible."""
    if got != sha256:
        raise PermanentStoreError(
            f"content with sha256 {sha256} for {key}",
            f"sha256 {got}",
            "Nothing was stored under this key.",
            "The source changed after it was hashed: compare it with its manifest.",
        )


def read_source(source: Path | bytes) -> bytes:
    """Read a small source into memory, so that the bytes hashed are the bytes sent."""
    try:
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(source: Path | bytes, error: OSError) -> StoreError:
    """Return the error for a source file that cannot be read; it is permanent."""
    return PermanentStoreError(
        f"a readable file {source!s}",
        error.strerror or str(error),
        "Nothing was stored.",
        "Restore the file, or its permissions, from the sealed evidence.",
    )


@contextmanager
def open_source(source: Path | bytes) -> Iterator[IO[bytes]]:
    """Open a source for streaming."""
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise unreadable(source, error) from error
    with file:
        yield file


def has_content(place: str, key: str, found: StoredObject | None, sha256: str, parts: Parts | None = None) -> bool:
    """Return whether the key has this content; False if there is no object. Raises Conflict for other content."""
    if found is None:
        return False
    if not found.agrees(sha256, parts):
        composite = f"the composite sha256 {found.composite} of its parts" if found.composite else ""
        digest = f"sha256 {found.sha256}" if found.sha256 else composite or "a sha256 that it doesn't tell"
        raise Conflict(
            f"sha256 {sha256} at {key} in {place}",
            f"an object with {digest}",
            "It was not overwritten.",
            "Keep both for the investigation: compare the object with the file, and ask who wrote it.",
        )
    return True


def build_vanished_error(place: str, key: str) -> StoreError:
    """Return the error for a store that refused to create an existing key, and then has no such object."""
    expected = f"{key} in {place}, which the store said exists"
    return TransientStoreError(expected, "no such object", "Nothing was stored.", "Try again.")


def absent(place: str, key: str) -> StoreError:
    """Return the error for reading an object that does not exist."""
    cure = "List the place, and check the incident id."
    return PermanentStoreError(f"an object {key} in {place}", "none", "Nothing was read.", cure)
