"""Show what people have written into the postmortem of an incident, and the line that writes the rest."""

from dataclasses import asdict

from tasks.cli.output import show
from tasks.cli.workloads import chosen
from tasks.custody.errors import Refused
from tasks.incident.current import last_incident
from tasks.incident.directory import find_home
from tasks.incident.last_postmortem import written_before
from tasks.incident.layout import INCIDENT


def show_written(text: str, incident: str, *, as_json: bool) -> int:
    """Print each field as it was written last. Raises Refused for an incident that this host does not have."""
    found = chosen(text)
    if len(found) != 1:
        raise Refused("one workload", f"{len(found)} in {text}", "Name it: FILE:NAME.")
    ((called, workload),) = found.items()
    wanted = incident or last_incident(workload) or ""
    home = find_home(workload, wanted) if wanted else None
    if home is None or not (home / INCIDENT).is_file():
        remedy = "Copy the id from `evacuation status`, on the workload's host."
        raise Refused(f"an incident of {called.name} on this host", wanted or "none", remedy)
    written = written_before(home)
    lines = [f"postmortem of {wanted}"]
    lines += [f"  {name:<11} {text or 'open 未記入'}" for name, text in asdict(written).items()]
    options = [word for name in written.open or ("cause",) for word in (f"--{name}", "…")]
    lines.append(f"write 記入: {called.command('postmortem', wanted, *options)}")
    show("postmortem", lines, {"incident": wanted, "fields": asdict(written), "open": written.open}, as_json=as_json)
    return 0
