"""Spell the commands that messages tell a person to type."""

from collections.abc import Sequence
from typing import Final

_SHOWN: Final = 5


def deployment_run(flow: str, workload: str, incident: str = "") -> str:
    """Return the command that has a worker run this flow (for this incident, if given), to be pasted as it stands."""
    given = f" --param incident_id={incident}" if incident else ""
    return f"prefect deployment run {flow}/{workload}{given} --watch"


def postmortem_line(workload: str, incident: str) -> str:
    """Return the command that shows and writes what people have to say in the postmortem."""
    return f"evacuation postmortem evacuation.toml:{workload} {incident}"


def answer_lines(workload: str, incident: str, pids: Sequence[int]) -> str:
    """Return the command that answers each process, five at most, and where a server has the form for it.

    The other choice stands in parentheses: a shell refuses the line as a whole, and would take `bystander|end` for an
    answer and a program.
    """
    lines = [
        f"evacuation answer evacuation.toml:{workload} {incident} {pid} bystander (or: end)" for pid in pids[:_SHOWN]
    ]
    rest = [f"{len(pids) - _SHOWN} more in the same way"] if len(pids) > _SHOWN else []
    return f"{'; '.join([*lines, *rest])}; or the deployment answer/{workload} in Prefect's UI"
