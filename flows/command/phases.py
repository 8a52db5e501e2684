"""Show a run by hand while it goes on: one line a phase on stderr, and no log lines but warnings."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tasks.custody.errors import EvacuationError
from tasks.custody.visible import say, visible
from tasks.host.process.table import age_of, start_of
from tasks.system.cancellation import RunCancelled

_PHASES: Final = frozenset(
    {"cordon", "freeze", "stop", "prove_contained", "seal", "offload", "verify", "prove_still_contained", "promote"}
) | {"record", "recover", "prove_contained_again"}
_STEPS: Final = "tasks.runtime.step"
_PREFECTS: Final = ("prefect.flow_runs", "prefect.task_runs")
_WIDTH: Final = 150
_ENDED: Final = "Finished in state"


class Phases(logging.Handler):
    """Print the end of each phase, with the seconds since the command was typed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line of a step that ends a phase; no step fails because nobody reads it."""
        if getattr(record, "step_id", "") in _PHASES:
            with suppress(OSError, ValueError):
                say(visible(f"{age_of(start_of(os.getpid())):6.1f} s  {record.getMessage()}", _WIDTH), error=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a line of Prefect's log says more than the phases do."""
    is_known = record.exc_info and isinstance(record.exc_info[1], EvacuationError | RunCancelled)
    return record.levelno > logging.INFO and not is_known and not record.getMessage().startswith(_ENDED)


@contextmanager
def phases() -> Iterator[None]:
    """Show the phases of the runs within, in place of Prefect's lines on their steps."""
    steps, shown = logging.getLogger(_STEPS), Phases()
    before, quiet = (steps.level, steps.propagate), [logging.getLogger(name) for name in _PREFECTS]
    steps.addHandler(shown)
    steps.setLevel(logging.INFO)
    steps.propagate = False
    for each in quiet:
        each.addFilter(_is_news)
    try:
        yield
    finally:
        steps.removeHandler(shown)
        steps.setLevel(before[0])
        steps.propagate = before[1]
        for each in quiet:
            each.removeFilter(_is_news)
