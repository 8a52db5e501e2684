"""Join an alarm's run to its incident before Prefect is imported. In doubt the run itself decides."""

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tasks.custody.incident.alarm import Alarm
from tasks.custody.visible import say
from tasks.incident.joining import incident_of, joined_message, leave
from tasks.prestart.freeze import FLOW, evidence_of
from tasks.prestart.prefect_http import NotNow, ask_server, fields_of

_ANSWER_SECONDS: Final = 30.0


def join_early(environment: Mapping[str, str]) -> bool:
    """End the flow run that the environment names as Joined, if an alarm started it that belongs to an incident."""
    try:
        run = environment["PREFECT__FLOW_RUN_ID"]
        asked = _asked(environment, run)
        if asked is None:
            return False
        alarm, base = asked
        incident = incident_of(alarm, [base])
        return bool(incident) and leave([base], incident, run, alarm) and _end(environment, run, incident)
    except Exception as reason:  # noqa: BLE001  the run must start whatever is wrong here
        say(f"not joined before the start of the run: {type(reason).__name__}: {reason}", error=True)
        return False


def _asked(environment: Mapping[str, str], run: str) -> tuple[Alarm, Path] | None:
    """Return the run's alarm and its workload's evidence folder; None for a run that a person has started."""
    with ask_server(environment, _ANSWER_SECONDS) as ask:
        about = ask(f"/flow_runs/{run}")
        parameters: dict[str, Any] = about["parameters"]
        alarm = Alarm.of(parameters.get("alarm"))
        by_hand = parameters.get("dry_run") or parameters.get("incident_id")
        if alarm is None or by_hand or ask(f"/flows/{about['flow_id']}")["name"] != FLOW:
            return None
        fields = fields_of(ask, parameters["workload"])
        if fields["host"] != socket.gethostname():
            return None
        if alarm.run and not alarm.began:
            alarm = began(alarm, ask)
    return alarm, evidence_of(fields)


def began(alarm: Alarm, ask: Any) -> Alarm:
    """Return the alarm with the start time of its training run, if the server still knows it."""
    try:
        start = ask(f"/flow_runs/{alarm.run}")["start_time"]
    except NotNow:
        return alarm
    known = Alarm.of({"event": alarm.event, "payload": {"began": start}})
    return replace(alarm, began=known.began if known else None)


def _end(environment: Mapping[str, str], run: str, incident: str) -> bool:
    state = {"type": "COMPLETED", "name": "Joined", "message": joined_message(incident)}
    with ask_server(environment, _ANSWER_SECONDS) as ask:
        answer = ask(f"/flow_runs/{run}/set_state", {"state": state})
    say(f"{os.getpid()}: {joined_message(incident)}", error=True)
    return bool(answer["status"] == "ACCEPT")
