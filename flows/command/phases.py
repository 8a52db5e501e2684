"""Show a run by hand while it goes on: one line a phase on stderr, what it waits for, and no log lines but warnings."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic
from typing import Final

from tasks.custody.errors import EvacuationError
from tasks.custody.visible import say, visible
from tasks.host.process.table import age_of, start_of
from tasks.system.cancellation import RunCancelled

_PHASES: Final = frozenset(
    {"cordon", "freeze", "stop", "prove_contained", "seal", "offload", "verify", "prove_still_contained", "promote"}
) | {"record", "recover", "prove_contained_again"}
_PREFECTS: Final = ("prefect.flow_runs", "prefect.task_runs")
_WIDTH: Final = 150
_WIDTH_AT_WORK: Final = 700
_SILENT_SECONDS: Final = 20.0
_ENDED: Final = "Finished in state", "Task run failed with state"


class Phases(logging.Handler):
    """Print the end of each phase, with the seconds since the command was typed.

    After `silence` seconds without a line, print which steps are at work, again and again, and of a store that they ask
    since when it does not answer, until when it is tried, and what is known already.
    """

    def __init__(self, silence: float = _SILENT_SECONDS) -> None:
        """Watch for silence from the first step until `end`: an interrupt of imports has the process for itself."""
        super().__init__()
        self._silence, self._at_work, self._ended, self._told_at = silence, Counter[str](), Event(), monotonic()
        self._tells = dict[str, Callable[[], str]]()
        self._watch = Thread(target=self._tell_silence, name="phases", daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line of a step that ends a phase, and know which are at work."""
        if (begins := getattr(record, "begins", None)) is not None:
            self._at_work[record.getMessage()] += 1 if begins else -1
            if tell := getattr(record, "silence", None):
                self._tells[record.getMessage()] = tell
            if self._watch.ident is None:
                self._told_at = monotonic()
                self._watch.start()
        elif getattr(record, "step_id", "") in _PHASES:
            self._print(record.getMessage())

    def end(self) -> None:
        """End the watch. Not `close`, which whoever configures logging anew calls on every handler that there is."""
        self._ended.set()
        if self._watch.ident is not None:
            self._watch.join()

    def _tell_silence(self) -> None:
        while not self._ended.wait(seconds := max(self._told_at + self._silence - monotonic(), 0)):
            if seconds:  # a line may have come meanwhile
                continue
            self._told_at = monotonic()
            if steps := [*(+self._at_work.copy())]:
                messages = [self._tells[each]() for each in steps if each in self._tells]
                self._print("; ".join([f"at work 実行中: {', '.join(steps)}", *filter(None, messages)]), _WIDTH_AT_WORK)

    def _print(self, line: str, width: int = _WIDTH) -> None:
        """Print a line; no step fails because nobody reads it."""
        self._told_at = monotonic()
        with suppress(OSError, ValueError):
            say(visible(f"{age_of(start_of(os.getpid())):6.1f} s  {line}", width), error=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a line of Prefect's log says more than the phases do."""
    is_known = record.exc_info and isinstance(record.exc_info[1], EvacuationError | RunCancelled)
    return record.levelno > logging.INFO and not is_known and not record.getMessage().startswith(_ENDED)


@contextmanager
def phases(silence: float = _SILENT_SECONDS) -> Iterator[None]:
    """Show the phases of the runs within, in place of Prefect's lines on their steps."""
    steps, shown = logging.getLogger("tasks.runtime.step"), Phases(silence)
    before, quiet = (steps.level, steps.propagate), [logging.getLogger(name) for name in _PREFECTS]
    steps.addHandler(shown)
    steps.setLevel(logging.DEBUG)
    steps.propagate = False
    for each in quiet:
        each.addFilter(_is_news)
    try:
        yield
    finally:
        steps.removeHandler(shown)
        shown.end()
        steps.setLevel(before[0])
        steps.propagate = before[1]
        for each in quiet:
            each.removeFilter(_is_news)
