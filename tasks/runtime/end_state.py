"""Build a run's final Prefect state from one of the documented endings."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.custody.incident.ending import Ending
from tasks.custody.visible import LINE_LIMIT, visible


def ended(ending: Ending, message: str) -> State[Any]:
    """Return the state. `message` says in plain words what a person has to know of this run."""
    return (Completed if ending.completed else Failed)(name=ending.name, message=visible(message, LINE_LIMIT))
