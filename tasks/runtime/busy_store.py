"""Wait for a store that answers that it is busy: a minute in all steps of a run. Only steps after the stop do so."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from tasks.custody.errors import BusyStoreError
from tasks.runtime.context import RunContext

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 5.0


def waits_for_store(
    body: Callable[Concatenate[RunContext, P], T],
) -> Callable[Concatenate[RunContext, P], T]:
    """Call a step's body again while the store is busy, until the run has waited BUSY_SECONDS; then its error stands.

    The body has to be one that may be repeated. Raises RunCancelled if the run is cancelled meanwhile.
    """

    @wraps(body)
    def patient(context: RunContext, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return body(context, *args, **kwargs)
            except BusyStoreError as error:
                pause = min(_PAUSE_SECONDS, BUSY_SECONDS - context.waited_for_store)
                if pause <= 0:
                    raise
                context.waited_for_store += pause
                logger.warning("Tried again in %g s 保全先の応答待ち: %s", pause, error)
                context.cancelled.pause(pause)

    return patient
