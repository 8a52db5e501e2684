"""Look whether people have practised, and whether they are told of how an evacuation ends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect.events.actions import SendNotification
from prefect.exceptions import ObjectNotFound

from tasks.custody.incident.ending import DRY_RUN, NOT_REHEARSED, REHEARSED
from tasks.custody.incident.readiness import Finding, loss, sound
from tasks.incident.directory import bases
from tasks.incident.layout import DRY_RUN as DRY_RUNS
from tasks.incident.layout import closings
from tasks.readiness.patient import Patient
from tasks.readiness.runs import asking, runs_of

TELL_PEOPLE: Final = "evacuation: tell people"
"""The automation that notifies people."""
_OLD: Final = timedelta(days=180)


def drill(patient: Patient) -> Finding:
    """Find the last drill on the server or dry run on this host."""
    known = sorted([*_dry_runs(patient), *_drills(patient)])
    matters = "the first to try it is somebody half asleep"
    cure = f"prefect deployment run drill/{patient.name} --watch, or evacuation plan evacuation.toml"
    if not known:
        return loss("no drill and no dry run is known", matters, cure)
    at, end = known[-1]
    told = f"the last was {at:%Y-%m-%d %H:%M} UTC and ended {end}"
    if end == NOT_REHEARSED.name or datetime.now(UTC) - at > _OLD:
        return loss(told, matters, cure)
    return sound(told)


def _dry_runs(patient: Patient) -> Iterator[tuple[datetime, str]]:
    """Yield when each dry run on this host has closed its record."""
    homes = (home for base in bases(patient.workload) for home in (base / DRY_RUNS).glob("IR-*"))
    for closing in (each for home in homes for each in closings(home)):
        yield datetime.fromtimestamp(closing.stat().st_mtime, UTC), DRY_RUN.name


def _drills(patient: Patient) -> Iterator[tuple[datetime, str]]:
    with asking() as client:
        for run in runs_of(client, "drill", patient.name, [REHEARSED.name, NOT_REHEARSED.name], 1):
            if run.end_time:
                yield datetime.fromtimestamp(run.end_time.timestamp(), UTC), str(run.state_name)


def notification(patient: Patient) -> Finding:
    """Look whether a notification is deployed, active, and has its block."""
    del patient
    matters = "nobody hears how an evacuation ends, nor that this became worse"
    cure = "evacuation deploy evacuation.toml --notify slack-webhook/ops (docs/triggers.md)"
    with asking() as client:
        found = client.read_automations_by_name(TELL_PEOPLE)
        used = [action for each in found for action in each.actions if isinstance(action, SendNotification)]
        if not used or not all(each.enabled for each in found):
            return loss("no notification is deployed and active", matters, cure)
        try:
            kinds = [str(client.read_block_document(each.block_document_id).block_type_name) for each in used]
        except ObjectNotFound:
            return loss("the block of the notification is gone", matters, cure)
    return sound(f"{', '.join(kinds)}; whether a message arrives is not tried")


CHECKS: Final = (drill, notification)
