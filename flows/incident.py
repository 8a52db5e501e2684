"""Run the steps of an incident that a flow has opened, and close it in any case."""

from collections.abc import Callable
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.custody.errors import EvacuationError
from tasks.preflight.open_incident import NotOpened, Opened
from tasks.prestart.journal import leave_to_person
from tasks.runtime.flow_run import make_state
from tasks.runtime.step import StepRunner
from tasks.system.cancellation import cancel_on_signals

AT_ONCE: Final[Any] = ThreadPoolTaskRunner(max_workers=16)
"""Runs the steps of an evacuation."""
FEW_AT_ONCE: Final[Any] = ThreadPoolTaskRunner(max_workers=4)
"""Runs the steps of what follows one."""


def run_steps(opened: Opened | NotOpened, body: Callable[[StepRunner], State[Any]]) -> State[Any]:
    """Run the body, and return the state that it ends in; without an incident the one that says why none was opened."""
    if not isinstance(opened, Opened):
        return make_state(opened.ending, opened.summary)
    try:
        with cancel_on_signals(opened.context.cancelled), StepRunner(opened.context) as steps:
            return body(steps)
    except EvacuationError:
        raise
    except Exception:
        leave_to_person(opened.context.cordon_files.early)
        raise
    finally:
        opened.context.close()
