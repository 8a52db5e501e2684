"""Cancel a run by a flag that every long wait checks: the current step ends soon, and no other begins."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from math import inf
from types import FrameType
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS: Final = 5.0
"""How long to wait for a step that ignores the flag. Prefect's worker kills 30 s after its request."""
_HEED_SECONDS: Final = 0.1
"""How often a wait checks the flag."""
_abandoned: Final[list[threading.Thread]] = []


class RunCancelled(Exception):
    """A step was not begun, or not finished, because its run was cancelled."""


class Cancellation:
    """Whether a run was told to end: by which signal and when, and its `results`, such as "contained" and "stored".

    `stopped` is how much of the workload had ended by then, where the rest stands frozen.
    """

    def __init__(self) -> None:
        """Start without an order to end."""
        self.at: datetime | None = None
        self.by = ""
        self.results: tuple[str, ...] = ()
        self.stopped = 0

    def __bool__(self) -> bool:
        """Return whether it was told to end."""
        return self.at is not None

    @property
    def summary(self) -> str:
        """The results in a line; empty if there are none yet."""
        return ", ".join(filter(None, (self.part_stopped, *self.results)))

    @property
    def part_stopped(self) -> str:
        """How many processes and containers were stopped, where the rest stands frozen; else empty."""
        return f"{self.stopped} stopped" if self.stopped else ""

    def order(self, number: int, _: FrameType | None = None) -> None:
        """Record the order to end; only the first counts. Takes no lock, as it runs inside a signal handler."""
        if self.at is None:
            self.by, self.at = signal.Signals(number).name, datetime.now(UTC)

    def check(self) -> None:
        """Raise RunCancelled if the run was told to end."""
        if self:
            raise RunCancelled("not finished: the run was cancelled")

    def await_end(self, future: Future[T], seconds: float = inf) -> bool:
        """Wait for a future as long as given, and not longer than the run goes on; return whether it is done."""
        deadline = time.monotonic() + seconds
        while not future.done() and not self and (remaining := deadline - time.monotonic()) > 0:
            wait([future], min(_HEED_SECONDS, remaining))
        return future.done()

    def pause(self, seconds: float) -> None:
        """Wait. Raises RunCancelled as soon as the run was told to end."""
        self.await_end(Future(), seconds)
        self.check()

    def run_bounded(self, body: Callable[[], T], patience: float) -> T:
        """Run `body` in a thread; once cancelled, wait `patience` seconds, then raise RunCancelled and leave it."""
        done, thread = run_in_thread(body)
        self.await_end(done)
        wait([done], patience)
        if not done.done():
            _abandoned.append(thread)
            raise RunCancelled(f"not finished {patience:g} s after the run was cancelled")
        return done.result()


def await_result(future: Future[T]) -> T:
    """Wait for a result in short turns, so that signals are handled.

    Python runs signal handlers in the main thread only: a signal that arrives just before an endless wait, or in
    another thread, would be handled when that wait ends.
    """
    while not future.done():
        wait([future], _HEED_SECONDS)
    return future.result()


def run_in_thread(body: Callable[[], T]) -> tuple[Future[T], threading.Thread]:
    """Run `body` in a daemon thread, which does not keep the process alive."""
    done, context = Future[T](), copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(body))
        except BaseException as error:  # noqa: BLE001  raised by the future's result()
            done.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return done, thread


def still_acts() -> bool:
    """Return whether a step left behind by `run_bounded` still runs; its resources are freed when this process ends."""
    return any(thread.is_alive() for thread in _abandoned)


@contextmanager
def cancel_on_signals(cancelled: Cancellation) -> Iterator[None]:
    """Handle SIGTERM and SIGINT as the order to end. Changes nothing outside the main thread, which alone gets signals.

    Prefect's worker sends SIGTERM to a cancelled run, and SIGKILL after 30 s. Prefect's own handler would raise an
    exception wherever the main thread is.
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
