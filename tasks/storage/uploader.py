"""§5: get each sealed file to its key: keep it if it is there, else copy it inside the store, else upload it."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from blocks.port import ignore_progress
from tasks.custody.errors import Conflict, Denied, PermanentStoreError, StoreError, TransientStoreError
from tasks.custody.store.manifest import require_intact
from tasks.custody.store.objects import Expected, once
from tasks.evidence.beside import create_or_beside, displace
from tasks.evidence.uncopied_files import as_sealed, reading
from tasks.runtime.context import RunContext
from tasks.runtime.progress import Progress
from tasks.storage.untrusted_reads import read_back
from tasks.storage.upload_ledger import Ledger
from tasks.system.parallel import QUESTIONS, THREADS, side_by_side

logger = logging.getLogger(__name__)

_SMALL: Final = 1 << 18
"""Largest size in bytes of a file that counts as small: more of these are sent at a time."""


_LARGE_ONES: Final = 2
"""Large files under way at a time: one begins while the last parts of the one before are sent."""


@dataclass
class Delivery:
    """Delivery of one evidence folder's files, each in the cheapest way that the store's own digest proves.

    `elsewhere` maps digests to keys of earlier incidents, `listed` keys to sizes that a listing gave, `displaced` keys
    at which other content lies to those beside them that have the sealed one.
    """

    context: RunContext
    ledger: Ledger
    volume: int
    elsewhere: Mapping[str, str]
    progress: Progress
    listed: Mapping[str, int] = field(default_factory=dict)
    displaced: dict[str, str] = field(default_factory=dict)

    def deliver(self, items: Sequence[Expected], copies: Iterable[Expected] = ()) -> frozenset[str]:
        """Deliver files, and make each one's copy as soon as the file is in the store. Return the names of lost files.

        So the store copies while the line is busy with the next file.
        """
        waiting, lost = {item.stored_name: item for item in copies}, set[str]()

        def to_copy() -> Iterator[Expected]:
            for item, there in delivered:
                if not there:
                    lost.add(item.stored_name)
                elif item.stored_name in waiting:
                    yield waiting[item.stored_name]

        threads = QUESTIONS if self.context.store.evidence.promises().copies else THREADS
        with closing(self._deliver_all(items)) as delivered:
            deque(side_by_side(self.copy, to_copy(), threads), maxlen=0)
        return frozenset(lost)

    def _deliver_all(self, items: Sequence[Expected]) -> Generator[tuple[Expected, bool], None, None]:
        """Yield each file, and whether the store has it: small ones many at a time, then large ones in parallel parts.

        A file that the folder has twice is uploaded once and copied.
        """
        firsts, again = once(items)
        whole = [item for item in firsts if not item.parts]
        for batch, threads in (
            ([item for item in whole if item.size <= _SMALL], QUESTIONS),
            ([item for item in whole if item.size > _SMALL], THREADS),
            ([item for item in firsts if item.parts], _LARGE_ONES),
            (again, THREADS),
        ):
            yield from zip(batch, side_by_side(self._deliver, batch, threads), strict=True)

    def copy(self, item: Expected) -> None:
        """Copy a delivered object to another prefix."""
        store, origin = self.context.store.evidence, self.displaced.get(item.origin, item.origin)
        if not self._there(item):
            try:
                store.copy(origin, item.key, item.sha256, item.parts)
            except Conflict as conflict:
                beside = self.displaced[item.key] = displace(self.context.log, self.context.incident.id, item, conflict)
                with suppress(Conflict):
                    store.copy(origin, beside, item.sha256, item.parts)
            except PermanentStoreError as error:
                if isinstance(error, Denied) or item.origin not in self.displaced:
                    raise
                logger.warning("Not copied, as both keys of its content have another: %s", error)
        self._finish(item, "there")

    def close(self, item: Expected, path: Path) -> None:
        """Upload one of the documents that close the folder. Called in their order."""
        there = self._there(item)
        if not there:
            self._create(item, path)
        self._finish(item, "there" if there else "sent")

    def _create(self, item: Expected, path: Path, tell: Callable[[int], object] = ignore_progress) -> None:
        key = create_or_beside(self.context.store, self.context.incident.id, item, path, tell)
        if key != item.key:
            self.displaced[item.key] = key

    def _deliver(self, item: Expected) -> bool:
        """Deliver one file; False if it is lost."""
        if self._there(item):
            return self._finish(item, "there")
        origin = item.origin or self.elsewhere.get(item.sha256, "")
        if origin and self._taken_over(origin, item):
            return self._finish(item, "copied")
        return self._send(item)

    def _there(self, item: Expected) -> bool:
        """Return whether the object is in the store. Only keys in the ledger are asked for.

        A key listed with the right size needs no request: `verify` checks its digest later.
        """
        self.context.cancelled.check()
        if self.ledger.known.get(item.key) != item.sha256:
            return False
        if self.listed.get(item.key) == item.size:
            return True
        with suppress(Conflict):  # it is answered where the object is created
            return self.context.store.evidence.ensure_present(item.key, item.sha256, item.parts)
        return False

    def _taken_over(self, origin: str, item: Expected) -> bool:
        """Copy an object whose digest the store confirms. False if it cannot be copied and must be uploaded."""
        store = self.context.store.evidence
        there = store.head(origin)
        if there is None or not there.agrees(item.sha256, item.parts):
            return False
        try:
            store.copy(origin, item.key, item.sha256, item.parts)
        except (PermanentStoreError, Conflict) as error:
            logger.warning("Sent again: %s", error)
            return False
        return True

    def _send(self, item: Expected) -> bool:
        """Upload one file; False if it is lost: hashed in place, and no longer as sealed."""
        file, parts = item.file, list[int]()

        def tell(size: int) -> None:
            parts.append(size)
            self.progress.add(0, size, "sent")

        try:
            with reading(self.context.directory, self.volume, file) as path:
                self._create(item, path, tell)
        except (OSError, StoreError) as error:
            directory = self.context.directory
            if not (file.in_place or isinstance(error, TransientStoreError | Denied)):
                # a fresh seal is checked by this alone: Tampered if the copy is the reason that it was not accepted
                require_intact([file], directory.evidence_dir(self.volume), partial(directory.locate, self.volume))
            if not file.in_place or as_sealed(directory.root, file):
                raise
            self.context.log.write("lost", item.stored_name, reason=str(error), sealed=item.sha256)
            there = self.context.store.evidence.head(item.key)  # an earlier run may have sent it while it was whole
            return there is not None and item.sha256 == (
                there.says(item.sha256, item.parts) or read_back(self.context.store.evidence, item.key, item.size)
            )
        return self._finish(item, "there" if item.parts else "sent", item.size - sum(parts))

    def _finish(self, item: Expected, way: str, size: int | None = None) -> bool:
        if item.key not in self.displaced:
            self.ledger.note(item.key, item.sha256)
        self.progress.add(1, item.size if size is None else size, way)
        return True
