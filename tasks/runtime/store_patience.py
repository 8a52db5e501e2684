"""Wait for a store that has answered nothing in this run: one time in all, whichever steps ask it.

A store that has answered anything, be it that it cannot now, has the patience of each request and each step.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from functools import partial, wraps
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from tasks.custody.errors import SilentStoreError
from tasks.custody.store.silence import StoreSilence
from tasks.system.cancellation import run_in_thread

if TYPE_CHECKING:
    from blocks.port import Store, StoredObject

T = TypeVar("T")

SILENT_SECONDS: Final = 120.0
ONCE_SECONDS: Final = 5.0
"""For the one question of a step that comes ASK_AGAIN_SECONDS after the store was given up: it may be back."""
ASK_AGAIN_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 5.0
"""A pause between two tries that counts as waiting; in a longer one the run does something else."""
_END: Final = object()


class PatientStore:
    """A store that is asked until it has answered nothing for SILENT_SECONDS; then SilentStoreError is raised.

    That ends even what sends no request of its own limits: each question of a store that has not answered yet is put in
    a thread, which is left behind.
    """

    def __init__(self, store: "Store") -> None:
        """Take the store, which is `Answering`. Asks nothing."""
        self._store: Any = store
        self._lock, self._asking = Lock(), 0
        self._since, self._until, self._left_at = 0.0, 0.0, 0.0

    @property
    def place(self) -> str:
        """Its place."""
        return str(self._store.place)

    @property
    def has_answered(self) -> bool:
        """Whether it has answered anything at all."""
        return bool(self._store.has_answered)

    def find_silence(self) -> StoreSilence | None:
        """Return what it has not answered; of one that never has, until when the run waits for it."""
        found: StoreSilence | None = self._store.find_silence()
        if found is None or found.answered:
            return found
        rest = self._until - monotonic()
        return replace(found, since=self._since or found.since, until=time.time() + rest if rest > 0 else 0.0)

    def list(self, prefix: str) -> "Iterator[StoredObject]":
        """List as it does."""
        return self._begin_with_first(self._store.list(prefix))

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield as it does."""
        return self._begin_with_first(self._store.stream(key))

    def _begin_with_first(self, found: Iterator[T]) -> Iterator[T]:
        first = self._ask(lambda: next(found, _END))
        if first is not _END:
            yield cast("T", first)
            yield from found

    def __getattr__(self, name: str) -> Any:
        """Return what the store has by this name; of a method, one that waits as long as this does."""
        found = getattr(self._store, name)
        if not callable(found):
            return found

        @wraps(found)
        def ask(*args: Any, **more: Any) -> Any:
            return self._ask(partial(found, *args, **more))

        return ask

    def _ask(self, act: Callable[[], T]) -> T:
        if self.has_answered:
            return act()
        seconds = self._begin()
        try:
            done, _ = run_in_thread(act)
            wait([done], seconds)
            if not (done.done() or self.has_answered):
                raise self._give_up()
            return done.result()
        finally:
            with self._lock:
                self._asking, self._left_at = self._asking - 1, monotonic()

    def _begin(self) -> float:
        """Begin a question, and return how long it may take. Raises SilentStoreError if there is no time for it."""
        with self._lock:
            now = monotonic()
            if not self._since:
                self._since, self._until = time.time(), now + SILENT_SECONDS
            elif not self._asking:
                rest, idle = self._until - self._left_at, now - self._left_at
                if idle > _PAUSE_SECONDS and rest > 0:
                    self._until = now + rest
                elif idle > ASK_AGAIN_SECONDS:
                    self._until = now + ONCE_SECONDS
            if now >= self._until:
                raise self._give_up()
            self._asking += 1
            return self._until - now

    def _give_up(self) -> SilentStoreError:
        since = time.strftime("%H:%M:%SZ", time.gmtime(self._since))
        return SilentStoreError(
            f"an answer from {self.place}",
            f"none to any request of this run since {since}",
            f"It was waited for {SILENT_SECONDS:g} s in all, and no longer 応答なしのため断念.",
            "Check its endpoint, the network, and a proxy between; then run this again. What is sealed stays here.",
        )


def patient(store: "Store") -> "Store":
    """Return a store that is waited for as long as the run waits for a silent one."""
    return cast("Store", PatientStore(store))
