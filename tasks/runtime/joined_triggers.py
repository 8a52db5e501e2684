"""Copy the triggers of joined runs into the custody log."""

from pathlib import Path

from tasks.custody.incident.log import CustodyLog
from tasks.incident.joining import left


def take_over_triggers(home: Path, log: CustodyLog) -> int:
    """Log each trigger that is not in the log yet; return how many. Keeps the files, which are created only once."""
    if not (triggers := left(home)):
        return 0
    known = {entry["object"] for entry in log.entries() if entry["action"] == "triggered"}
    new = [trigger for trigger in triggers if str(trigger.get("run")) not in known]
    for trigger in new:
        log.write("triggered", str(trigger.get("run")), joined_at=trigger.get("at"), alarm=trigger.get("alarm"))
    return len(new)
