"""The store contract in its plainest form, for tests, and the laws that every store shares."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256 as sha256_of
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO

from blocks.port import StoredObject, untold
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


class MemoryStore:
    """A store that lives as long as its object. Thread-safe, like all stores."""

    def __init__(self, place: str = "memory:") -> None:
        """Begin empty."""
        self._place, self._objects, self._lock = place, dict[str, bytes](), Lock()

    @property
    def place(self) -> str:
        """A name for people."""
        return self._place

    def unfit(self) -> str:
        """Nothing is asked of it."""
        return ""

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = untold,
    ) -> None:
        """Create, or leave what is there."""
        del parts, tell
        self._keep(key, read_source(source), sha256)

    def _keep(self, key: str, data: bytes, sha256: str) -> None:
        require_digest(key, sha256_of(data).hexdigest(), sha256)
        with self._lock:
            new = self._objects.setdefault(require_key(key), data) is data
        if not new:
            self.ensure_present(key, sha256)

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """By the content itself."""
        return settled(self.place, key, self.head(key), sha256, parts)

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """Nothing is ever half done in memory."""
        del prefix
        return ()

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Create from another key; only `replace` overwrites."""
        del parts
        data = self.read(source)
        if not replace:
            return self._keep(key, data, sha256)
        require_digest(key, sha256_of(data).hexdigest(), sha256)
        with self._lock:
            self._objects[require_key(key)] = data
        return None

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """By the content itself."""
        if self.ensure_present(require_removable(key), sha256, parts):
            self._objects.pop(key, None)

    def head(self, key: str) -> StoredObject | None:
        """Size and digest of what is held."""
        data = self._objects.get(require_key(key))
        return None if data is None else StoredObject(key, len(data), sha256_of(data).hexdigest())

    def read(self, key: str) -> bytes:
        """The content."""
        try:
            return self._objects[require_key(key)]
        except KeyError:
            raise absent(self.place, key) from None

    def stream(self, key: str) -> Iterator[bytes]:
        """The content, which lies in memory anyway."""
        yield self.read(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Sorted by key, as all stores do."""
        with self._lock:
            held = sorted((key, data) for key, data in self._objects.items() if key.startswith(prefix))
        yield from (StoredObject(key, len(data), sha256_of(data).hexdigest()) for key, data in held)
