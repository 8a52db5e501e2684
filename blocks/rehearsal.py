"""Stand in for the store in a dry run: read the real one, and record what would be sent."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from blocks.port import Answering, Store, StoredObject, Tell
from tasks.custody.errors import Conflict
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.promises import Promises
from tasks.custody.store.retention import NOTHING, Retention
from tasks.custody.store.silence import StoreSilence


class RehearsalStore:
    """Read the real store and send nothing of the incident to it."""

    def __init__(self, store: Store, log: CustodyLog, retention: Retention = NOTHING) -> None:
        """Take the real store, the log, and the retention that would be requested."""
        self._store, self._log, self._retention = store, log, retention
        self._written: dict[str, StoredObject] = {}

    @property
    def place(self) -> str:
        """The real place."""
        return self._store.place

    @property
    def has_answered(self) -> bool:
        """Whether the real store has answered."""
        return not isinstance(self._store, Answering) or self._store.has_answered

    def find_silence(self) -> StoreSilence | None:
        """What the real store has not answered."""
        return self._store.find_silence() if isinstance(self._store, Answering) else None

    def unfit(self) -> str:
        """Ask the real store."""
        return self._store.unfit()

    def promises(self) -> Promises:
        """Test the real store as a run would: this writes to its canary objects, and nothing else is ever sent."""
        return self._store.promises()

    def create(self, key: str, source: Path | bytes, sha256: str, parts: Parts | None = None, tell: Tell = str) -> None:
        """Record the object; a conflict with an object that exists is raised as in a real run."""
        del tell
        there = self.head(key)
        if there and not there.agrees(sha256, parts):
            raise Conflict(
                f"{key} to be new or to have sha256 {sha256}",
                f"an object with sha256 {there.sha256}",
                "It would not be overwritten.",
                "Find out who wrote it, or evacuate under a new incident id.",
            )
        self._keep(key, len(source) if isinstance(source, bytes) else source.stat().st_size, sha256, "create")

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """Return whether the content would be there."""
        there = self.head(key)
        return there is not None and there.agrees(sha256, parts)

    def end_unfinished(self, prefix: str) -> tuple[str, ...]:
        """Do nothing."""
        del prefix
        return ()

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Record the copy."""
        there, origin = self.head(key), self.head(source)
        act = "keep" if there and there.agrees(sha256, parts) else "replace" if there and replace else "add"
        self._keep(key, origin.size if origin else 0, sha256, act)

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Record the removal."""
        del parts
        self._log.write("would", key, act="delete", sha256=sha256)
        self._written.pop(key, None)

    def _keep(self, key: str, size: int, sha256: str, act: str) -> None:
        self._log.write("would", key, act=act, sha256=sha256, size=size)
        retention = NOTHING if self.unfit() else self._retention
        until = retention.until(datetime.now(UTC)) if retention.lock else None
        self._written[key] = StoredObject(
            key, size, sha256, retained_until=until, lock=retention.lock, held=retention.hold
        )

    def head(self, key: str) -> StoredObject | None:
        """Return the object that would be there."""
        return self._written.get(key) or self._store.head(key)

    def read(self, key: str, limit: int | None = None) -> bytes:
        """Read the real store."""
        return self._store.read(key, limit)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the real store, piece by piece."""
        return self._store.stream(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the real store."""
        return self._store.list(prefix)

    def list_folder(self, prefix: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        """List a folder of the real store."""
        return self._store.list_folder(prefix)
