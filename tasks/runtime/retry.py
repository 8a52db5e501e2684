"""Decide whether a step that failed is tried again.

See docs/adr/0046.
"""

from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from typing import Any, Final

from prefect.client.schemas.objects import State

from tasks.custody.errors import EngineUnreachable, EvacuationError, SilentStoreError, TransientStoreError
from tasks.custody.step_result import StepResult

_LASTING: Final = frozenset({EACCES, EPERM, ENOSPC, EDQUOT, EROFS})


def may_pass(result: object) -> bool:
    """Return whether a retry can help, given a step's error or incomplete result.

    A step's result says so itself. Of errors those last that are an answer, as of a store, the engine or the input, a
    denied permission and a full disk; and the silence of a store, which has had all the time of its run.
    """
    if not isinstance(result, Exception):
        return isinstance(result, StepResult) and result.is_transient
    if isinstance(result, SilentStoreError):
        return False
    if isinstance(result, EvacuationError):
        return isinstance(result, TransientStoreError | EngineUnreachable)
    return not (isinstance(result, OSError) and result.errno in _LASTING)


def transient(_: Any, __: Any, state: State[Any]) -> bool:
    """Its error may pass, or its result says that another try may complete it."""
    return may_pass(state.result(raise_on_failure=False))
