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


def waits_for_store(body: Callable[Concatenate[RunContext, P], T]) -> Callable[Concatenate[RunContext, P], T]:
    """Call an idempotent body again while the store is busy, until the run has waited BUSY_SECONDS in all."""

    @wraps(body)
    def patient(context: RunContext, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return body(context, *args, **kwargs)
            except BusyStoreError as error:
                if context.waited_for_store >= BUSY_SECONDS:
                    raise
                if not context.waited_for_store:
                    message = "Tried again each %g s, for %g s in all 保全先の応答待ち: %s"
                    logger.warning(message, _PAUSE_SECONDS, BUSY_SECONDS, error)
                context.waited_for_store += _PAUSE_SECONDS
                context.cancelled.pause(_PAUSE_SECONDS)

    return patient
