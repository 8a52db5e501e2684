"""Join an alarm's run to its incident before Prefect is imported. In doubt the run itself decides.

See docs/adr/0023.
"""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.custody.incident.alarm import Alarm, last_begin
from tasks.custody.visible import say
from tasks.incident.joining import incident_of, joined_message, leave, own_incident
from tasks.incident.layout import incidents_in
from tasks.prestart.freeze import FLOW, evidence_of
from tasks.prestart.known_run import KnownRun
from tasks.prestart.reasons import NotNow
from tasks.system.declarations import require_declared


def join_early(run: KnownRun) -> bool:
    """End the flow run as Joined, if an alarm started it that belongs to an incident."""
    try:
        found = _find_alarm(run)
        if found is None:
            return False
        alarm, base = found
        incident = incident_of(_comparable(run, alarm, base), [base])
        return bool(incident) and leave([base], incident, run.id, alarm) and _end(run, incident)
    except Exception as reason:  # noqa: BLE001  the run must start whatever is wrong here
        say(f"not joined before the start of the run: {type(reason).__name__}: {reason}", error=True)
        return False


def would_join(run: KnownRun) -> bool:
    """Return whether the run belongs to an incident as things stand, without waiting for a run at work."""
    found = _find_alarm(run)
    return found is not None and bool(incident_of(_comparable(run, *found), [found[1]], wait=0))


def _comparable(run: KnownRun, alarm: Alarm, base: Path) -> Alarm:
    return alarm.comparable(run.time(), datetime.now(UTC)) if incidents_in(base) else alarm


def _find_alarm(run: KnownRun) -> tuple[Alarm, Path] | None:
    """Return the run's alarm and its workload's evidence folder; None for a run that a person has started."""
    parameters = run.parameters
    alarm = Alarm.of(parameters.get("alarm"))
    by_hand = parameters.get("dry_run") or parameters.get("incident_id")
    if alarm is None or by_hand or run.flow != FLOW or run.fields["host"] != socket.gethostname():
        return None
    require_declared(run.fields["root"])
    base = evidence_of(run.fields)
    # a retry joins nothing: its run carries its incident on, or says that it is over
    if run.was_begun and own_incident(run.id, [base]):
        return None
    if alarm.run and not alarm.began and incidents_in(base):
        alarm = began(alarm, run.ask)
    return alarm, base


def began(alarm: Alarm, ask: Any) -> Alarm:
    """Return the alarm with the begin of its training run's last attempt, if the server still knows it."""
    try:
        return replace(alarm, began=last_begin(ask(f"/flow_run_states/?flow_run_id={alarm.run}"), alarm.occurred))
    except NotNow:
        return alarm


def _end(run: KnownRun, incident: str) -> bool:
    state = {"type": "COMPLETED", "name": "Joined", "message": joined_message(incident)}
    answer = run.ask(f"/flow_runs/{run.id}/set_state", {"state": state})
    say(f"{os.getpid()}: {joined_message(incident)}", error=True)
    return bool(answer["status"] == "ACCEPT")
