"""Cancel a run by a flag that every long wait looks at: the step in hand ends soon, no other begins."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from types import FrameType
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS: Final = 5.0
"""How long a step that does not heed the flag is waited for. Prefect's worker kills 30 s after it asked."""
_HEED_SECONDS: Final = 0.1
"""How soon an order to end is noticed by whoever waits."""
_left: Final[list[threading.Thread]] = []


class RunCancelled(Exception):
    """A step was not begun, or not finished, because its run was cancelled."""


class Cancellation:
    """Whether a run was told to end: by which signal and when, and how things stood then."""

    def __init__(self) -> None:
        """It may go on."""
        self.at: datetime | None = None
        self.by = ""
        self.summary = ""

    def __bool__(self) -> bool:
        """True once it was told to end."""
        return self.at is not None

    def order(self, number: int, _: FrameType | None = None) -> None:
        """Tell it to end. Only the first time counts. Takes no lock: it runs inside a signal handler."""
        if self.at is None:
            self.by, self.at = signal.Signals(number).name, datetime.now(UTC)

    def check(self) -> None:
        """Raise RunCancelled once it was told to end."""
        if self:
            raise RunCancelled("not finished: the run was cancelled")

    def bounded(self, body: Callable[[], T], patience: float) -> T:
        """Do it apart. Once cancelled it has so many seconds left; RunCancelled leaves it to end with this process."""
        done, thread = apart(body)
        while not done.done() and not self:
            wait([done], _HEED_SECONDS)
        wait([done], patience)
        if not done.done():
            _left.append(thread)
            raise RunCancelled(f"not finished {patience:g} s after the run was cancelled")
        return done.result()


def await_result(future: Future[T]) -> T:
    """Wait for a result in short turns, so that a signal is heeded.

    Python runs a signal's handler in the main thread alone: one that came just before an endless wait began, or to
    another thread, would be heeded when that wait ends by itself.
    """
    while not future.done():
        wait([future], _HEED_SECONDS)
    return future.result()


def apart(body: Callable[[], T]) -> tuple[Future[T], threading.Thread]:
    """Start it in a thread that keeps no process from ending."""
    done, context = Future[T](), copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(body))
        except BaseException as error:  # noqa: BLE001  whoever waits for the result gets it
            done.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return done, thread


def still_acts() -> bool:
    """Whether a step that was left behind is still at work: what belongs to it is given up with this process alone."""
    return any(thread.is_alive() for thread in _left)


@contextmanager
def heeding(cancelled: Cancellation) -> Iterator[None]:
    """Take SIGTERM and SIGINT as the order to end. Outside the main thread, which alone gets signals, nothing changes.

    Prefect's worker sends SIGTERM when a run is cancelled, and SIGKILL after 30 s. Prefect's own handler would raise
    an exception wherever the main thread happens to be.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, cancelled.order) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
