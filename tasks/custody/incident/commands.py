"""Spell the commands that messages tell a person to type."""

from collections.abc import Iterable


def deployment_run(flow: str, workload: str, incident: str) -> str:
    """Return the command that has a worker run this flow for an incident, to be pasted as it stands."""
    return f"prefect deployment run {flow}/{workload} --param incident_id={incident} --watch"


def answer_lines(workload: str, incident: str, pids: Iterable[int]) -> str:
    """Return the command that answers each process, and where a server has the form for it.

    The other choice stands in parentheses: a shell refuses the line as a whole, and would take `bystander|end` for an
    answer and a program.
    """
    lines = (f"evacuation answer evacuation.toml:{workload} {incident} {pid} bystander (or: end)" for pid in pids)
    return f"{'; '.join(lines)}; or the deployment answer/{workload} in Prefect's UI"
