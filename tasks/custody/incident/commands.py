"""Spell the commands that messages tell a person to type."""


def deployment_run(flow: str, workload: str, incident: str) -> str:
    """Return the command that has a worker run this flow for an incident, to be pasted as it stands."""
    return f"prefect deployment run {flow}/{workload} --param incident_id={incident} --watch"
