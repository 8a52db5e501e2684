"""A store in memory that may fail, answer late, forget or lie, and knows what was promised of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256 as sha256_of
from pathlib import Path
from threading import Lock
from typing import Any

from blocks.port import StoredObject, ignore_progress
from tasks.custody.errors import Denied, TransientStoreError
from tasks.custody.evidence.keys import LATEST
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.manifest import canonical
from tests.support.memory_store import MemoryStore


@dataclass
class Moods:
    """How the store fails: at which of its acts, counted from the first of a run.

    It does not answer between `gone`; what it is told to create at one of the acts `late` it keeps and does not say so,
    at `forgets` it says so and keeps nothing, at `spoils` it keeps something else, and tells that one's digest. An id
    that is new to it is `claimed` by another host a moment before.
    """

    gone: tuple[int, int] = (0, 0)
    late: frozenset[int] = frozenset()
    forgets: frozenset[int] = frozenset()
    spoils: frozenset[int] = frozenset()
    denies_latest: bool = False
    claimed: bool = False


@dataclass
class TruthStore(MemoryStore):
    """`wrong` is what was done to it that nobody may do."""

    wrong: list[str] = field(default_factory=list)
    moods: Moods = field(default_factory=Moods)
    acts: int = 0
    spoiled: list[str] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.happens: Callable[[str], object] = len

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "happens": len}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    def _act(self, what: str, key: str) -> None:
        self.happens(f"store {what} {key}")
        self.acts += 1
        if self.moods.gone[0] <= self.acts < self.moods.gone[1]:
            raise TransientStoreError("a store that answers", "nothing", "Nothing is known.", "Try again.")
        if self.moods.denies_latest and what != "read" and key.startswith((LATEST, "promotions/")):
            raise Denied("the right to change latest/", "none", "Nothing was changed.", "Grant it.")

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = ignore_progress,
    ) -> None:
        """Create it, in this mood."""
        self._act("create", key)
        if self.acts in self.moods.forgets:
            self.forgotten.add(key)
            return
        new = key not in self._objects
        if new and self.moods.claimed and key.endswith("/claim.json"):
            said = {"incident": key.split("/")[1], "host": "another", "workload": "another"}
            self._objects[key], new = canonical(said), False
        super().create(key, source, sha256, parts, tell)
        if new and self.acts in self.moods.spoils:
            self._objects[key] += b"?"
            self.spoiled.append(key)
        if self.acts in self.moods.late:
            raise TransientStoreError("an answer", "none in time", "Whether it is stored is not known.", "Try again.")

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        self._act("copy", key)
        if replace and key in self._objects and not key.startswith(LATEST):
            self.wrong.append(f"{key} was overwritten")
        if self.acts not in self.moods.forgets:
            super().copy(source, key, sha256, parts, replace=replace)

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        self._act("remove", key)
        super().remove(key, sha256, parts)

    def head(self, key: str) -> StoredObject | None:
        self._act("read", key)
        return super().head(key)

    def read(self, key: str, limit: int | None = None) -> bytes:
        self._act("read", key)
        return super().read(key, limit)

    def mend(self) -> None:
        """Let a person with every right remove what it has spoiled: no run of ours may."""
        for key in self.spoiled:
            self._objects.pop(key, None)

    def holds(self, key: str, sha256: str) -> bool:
        """Whether it has this content, in truth."""
        return key in self._objects and sha256_of(self._objects[key]).hexdigest() == sha256

    def keys(self, prefix: str = "") -> list[str]:
        """What it has, in truth."""
        return sorted(key for key in self._objects if key.startswith(prefix))
