"""Build a run's last state in Prefect from an ending that the reference explains."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.custody.incident.ending import Ending
from tasks.custody.visible import LINE_LIMIT, visible


def ended(ending: Ending, message: str) -> State[Any]:
    """The state; `message` says in plain words what a person has to know of this very run."""
    return (Completed if ending.completed else Failed)(name=ending.name, message=visible(message, LINE_LIMIT))
