"""Know since when a store gives no answer to the requests that are sent to it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from blocks.s3.errors import is_transient
from tasks.custody.store.silence import StoreSilence

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SOON: Final = 5.0
"""Seconds that an answer may take before it counts as missing."""


class Answers:
    """Requests of one store that are under way, and those without an answer since its last one. Thread-safe.

    A refusal is an answer; a lost connection, a silence and a fault of the server are none.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Take the clock, and begin without any request under way."""
        self.now, self._lock = now, Lock()
        self._under_way: dict[int, tuple[float, float]] = {}
        self._heard = self._since = 0.0
        self._tries, self._last, self._fault = 0, "", False
        self.answered = False
        """Whether it has answered anything at all, be it that it cannot."""

    @contextmanager
    def await_answer(self, seconds: float) -> Iterator[None]:
        """Await the answer to a request that is given up after so many seconds, its repetitions among them."""
        self.begin(seconds)
        try:
            yield
        finally:
            self.end()

    def begin(self, seconds: float) -> None:
        """Note that this thread sends a request."""
        with self._lock:
            self._under_way[get_ident()] = self.now(), seconds

    def end(self) -> None:
        """Note that this thread awaits nothing."""
        with self._lock:
            self._under_way.pop(get_ident(), None)

    def hear(self) -> None:
        """Note an answer, or that the store takes what is sent."""
        with self._lock:
            self._heard, self._since, self._tries = self.now(), 0.0, 0
            self._last, self._fault, self.answered = "", False, True

    def _miss(self, words: str, *, fault: bool) -> None:
        with self._lock:
            began, _ = self._under_way.get(get_ident(), (self.now(), 0.0))
            self._since = self._since or max(began, self._heard)
            self._tries += 1
            self._last, self._fault, self.answered = words, fault, self.answered or fault

    def judge(self, error: Exception) -> None:
        """Note what an error of a client tells: no answer if it may pass, else one."""
        if is_transient(error):
            self._miss(f"{type(error).__name__}: {error}", fault=isinstance(error, ClientError))
        else:
            self.hear()

    def listen(self, client: "S3Client", seconds: float) -> None:
        """Note the requests of a boto3 client, which repeats them itself for so many seconds at most."""
        events = client.meta.events
        events.register("before-call.s3", lambda **_: self.begin(seconds))
        events.register("after-call.s3", self._hear_boto)
        events.register("after-call-error.s3", self._hear_boto)

    def _hear_boto(self, parsed: Any = None, exception: Any = None, **_: Any) -> None:
        if exception is None and "Error" in (parsed or {}):
            exception = ClientError(parsed, "S3")
        if exception is None:
            self.hear()
        else:
            self.judge(exception)
        self.end()

    def find_silence(self, place: str) -> StoreSilence | None:
        """Return what the store at this place has not answered, None if it answers."""
        with self._lock:
            oldest, seconds = min(self._under_way.values(), default=(0.0, 0.0))
            since = self._since or (max(oldest, self._heard) if oldest else 0.0)
            if not since or self.now() - since < _SOON:
                return None
            until = max((began + each for began, each in self._under_way.values()), default=0.0)
            return StoreSilence(place, since, self._tries, self._last, until, seconds, self._fault, self.answered)
