"""Name how a workload stands when a run of its incident is cancelled."""

from enum import StrEnum
from typing import Final


class Stance(StrEnum):
    """How the workload stands, in the words of the run's message and of its record."""

    CONTAINED = "contained"
    AS_FAR_AS_KNOWN = "stopped as far as known"
    FROZEN = "frozen, not stopped"
    FROZEN_AS_FAR_AS_KNOWN = "frozen as far as known, not stopped"
    REST_FROZEN = "the rest frozen"
    REST_FROZEN_AS_FAR_AS_KNOWN = "the rest frozen as far as known"
    NOT_CONTAINED = "not contained"
    RELEASED = "let go by an earlier recovery"
    UNTOUCHED = "nothing was touched"


ALL_STOPPED: Final = frozenset({Stance.CONTAINED, Stance.AS_FAR_AS_KNOWN})
ALL_FROZEN: Final = frozenset({Stance.FROZEN, Stance.FROZEN_AS_FAR_AS_KNOWN})
REST_FROZEN: Final = frozenset({Stance.REST_FROZEN, Stance.REST_FROZEN_AS_FAR_AS_KNOWN})
"""Something was stopped already."""

CANCELLED: Final = "cancelled: "


def cancelled_end(summary: str) -> str:
    """Return how a cancelled run ended, as its incident's folder keeps it for `status`."""
    return f"{CANCELLED}{summary}"
