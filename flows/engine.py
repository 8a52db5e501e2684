"""Freeze the workload, then become Prefect's engine, whose import takes seconds: `python -m flows.engine`."""

import gc
import logging
import os
import runpy
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Final

from tasks.custody.errors import EvacuationError
from tasks.prestart.freeze import defer_signals, freeze_early
from tasks.prestart.hand_over import receive
from tasks.prestart.join import join_early
from tasks.prestart.journal import leave_to_person, thaw_again
from tasks.prestart.known_run import is_over, known_run
from tasks.prestart.prefect_http import answers
from tasks.system.cancellation import RunCancelled, still_acts
from tasks.system.priority import take_priority

PATIENCE: Final = {"PREFECT_CLIENT_MAX_RETRIES": "3", "PREFECT_API_REQUEST_TIMEOUT": "10"}
"""Limits of the wait for a server that is gone or hangs, unless the worker's environment sets them."""


class Brief(logging.Filter):
    """Drop tracebacks of our own errors, whose messages say what a person needs, and of steps that were cancelled."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record through, without the traceback if the error is ours or missing."""
        if record.exc_info and isinstance(record.exc_info[1], EvacuationError | RunCancelled | None):
            record.exc_info = None
        return True


def load() -> None:
    """Import what a run needs, without garbage collection: of a million new objects none is garbage."""
    gc.disable()
    for module in ("prefect.flow_engine", "flows.evacuate"):
        import_module(module)
    import_module("tasks.runtime.own_results").read_own_results_only()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(Brief())
    gc.freeze()
    gc.enable()


def main() -> None:
    """Join an incident and end; else freeze the workload, run the flow run, and thaw what it did not take over.

    After an error of ours that stays frozen.
    """
    take_priority()
    with defer_signals():
        facts, early = receive(os.environ)
    if not early:
        with known_run(os.environ, facts) as run:
            if join_early(run):
                return
            with defer_signals():
                early = freeze_early(run)
            if early is None and join_early(run):  # another run was quicker
                return
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        load()
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except Exception:
        if early:
            leave_to_person(early.path)
        raise
    finally:
        if early:
            thaw_again(early, partial(is_over, os.environ))
        leave_dead_server(os.environ)
        if still_acts():  # end what a cancelled run has left behind: the interpreter would wait for it
            sys.stdout.flush()
            os._exit(0)


def leave_dead_server(environment: Mapping[str, str]) -> None:
    """End this process if its server is gone: the record is written, and Prefect would retry each event for 8 s.

    The exit code is that of a crash, so that the worker reports one if it still can.
    """
    if "PREFECT_API_URL" in environment and not answers(environment):
        print("the Prefect server does not answer: what it did not hear of this run is lost to it", file=sys.stderr)
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
