"""Take the triggers that joined runs have left over into the custody log."""

from tasks.incident.joining import left
from tasks.runtime.context import RunContext


def take_over_triggers(context: RunContext) -> int:
    """Write down each that is not in the log yet; how many these were. The files stay: they are made once."""
    if not (triggers := left(context.home)):
        return 0
    known = {entry["object"] for entry in context.log.entries() if entry["action"] == "triggered"}
    new = [trigger for trigger in triggers if str(trigger.get("run")) not in known]
    for trigger in new:
        context.log.write("triggered", str(trigger.get("run")), joined_at=trigger.get("at"), alarm=trigger.get("alarm"))
    return len(new)
