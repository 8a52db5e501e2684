"""A store in memory: the contract of `blocks.port.Store` in its plainest form."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256 as sha256_of
from pathlib import Path
from threading import Lock

from blocks.contract import absent, has_content, read_source, require_digest, require_key, require_removable
from blocks.port import CANARIES, StoredObject, ignore_progress
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.promises import KEPT, Promises


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

    def promises(self) -> Promises:
        """It keeps them all."""
        return KEPT

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = ignore_progress,
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
        return has_content(self.place, key, self.head(key), sha256, parts)

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

    def read(self, key: str, limit: int | None = None) -> bytes:
        """The content, or how it begins."""
        try:
            return self._objects[require_key(key)][:limit]
        except KeyError:
            raise absent(self.place, key) from None

    def stream(self, key: str) -> Iterator[bytes]:
        """The content, which lies in memory anyway."""
        yield self.read(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Sorted by key, as all stores do."""
        with self._lock:
            told = [key for key in self._objects if key.startswith(prefix) and not key.startswith(CANARIES)]
            held = sorted((key, self._objects[key]) for key in told)
        yield from (StoredObject(key, len(data), sha256_of(data).hexdigest()) for key, data in held)

    def list_folder(self, prefix: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        """By the names of all."""
        below = [(each, each.key.removeprefix(prefix).partition("/")) for each in self.list(prefix)]
        return [each for each, (_, deeper, _) in below if not deeper], sorted(
            {f"{prefix}{name}/" for _, (name, deeper, _) in below if deeper}
        )

    def probe(self, name: str, data: bytes) -> StoredObject | None:
        """As an object that no list tells."""
        with self._lock:
            self._objects[CANARIES + name] = data
        return self.head(CANARIES + name)
