"""Tell from an incident's journals whether its stop has begun."""

from pathlib import Path

from tasks.custody.incident.steps import step_of
from tasks.incident.layout import CUSTODY_LOG, STOPPED, STOPPED_CONTAINERS, of_any_boot
from tasks.system.files.atomic_files import caught_lines, read_private, rows_of


def why_not_thaw(home: Path) -> str:
    """Why an incident can no longer be as it was; empty while nothing of it was asked to end, in any boot."""
    ended = (path for name in (STOPPED, STOPPED_CONTAINERS) for path in home.glob(of_any_boot(name)))
    if any(rows_of(path, read_private) for path in ended):
        return "something of it was stopped already"
    log = caught_lines(home / CUSTODY_LOG)
    begun = any(each.get("action") == "step started" and step_of(each)[0] == "stop" for each in log)
    return "its stop has begun: something may have been asked to end" if begun else ""
