"""Join an incident instead of opening one: read what the host's incidents have contained, leave the trigger there, end.

Standard library alone, so that fifty alarms at once cost fifty short processes and no import of Prefect. Only the owner
of an incident writes its custody log: a run that joins leaves one file, created once, which the owner copies into it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.custody.containment.identity import Identity
from tasks.custody.incident.alarm import Alarm, Past, belongs_to
from tasks.custody.incident.incident import known_id
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import LinuxHost
from tasks.incident.last_word import CONTAINED, last_word
from tasks.incident.layout import (
    CAUGHT,
    CORDON,
    CUSTODY_LOG,
    FROZEN,
    FROZEN_CONTAINERS,
    RETURNED,
    TRIGGERS,
    incidents_in,
    of_any_boot,
)
from tasks.incident.run_lock import incident_at_work, is_owned
from tasks.system.files.atomic_files import caught_lines, read_marker, read_plain, rows_of, write_once
from tasks.system.files.ours import make_folder
from tasks.system.polling import poll_until

WAIT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1


def incident_of(alarm: Alarm | None, bases: Sequence[Path], wait: float = WAIT_SECONDS) -> str:
    """Return the incident that a trigger joins; empty if it opens a new one.

    Waits up to `wait` seconds for a run at work that has not opened its incident yet: it may be refused.
    """

    def look() -> list[str]:
        """Return the incident, or that there is none; nothing while that may change."""
        incident = (belongs_to(alarm, past(bases)) if alarm else "") or incident_at_work(bases[0])
        return [incident] if incident or not is_owned(bases[0]) else []

    return next(iter(poll_until(look, wait, _POLL_SECONDS)), "")


def leave(bases: Sequence[Path], incident: str, run: str, alarm: Alarm | None) -> bool:
    """Write the trigger into the incident's folder; idempotent. False if no disk takes it."""
    home = next((home for base in bases for home in incidents_in(base) if home.name == incident), None)
    if home is None or os.sep in run:  # the id of a run comes from the environment
        return False
    trigger = {"run": run, "at": datetime.now(UTC).isoformat(), "alarm": alarm.facts if alarm else {}}
    with suppress(OSError):
        os.close(make_folder(home / TRIGGERS, 0o700))
        write_once(home / TRIGGERS / f"{run}.json", json.dumps(trigger).encode())
        return True
    return False


def read_triggers(home: Path) -> list[dict[str, Any]]:
    """Return the triggers in an incident's folder, in the order in which they came."""
    found = []
    for path in (home / TRIGGERS).glob("*.json"):
        with suppress(OSError, ValueError):
            if isinstance(trigger := json.loads(read_plain(path)), dict):
                found.append(trigger)
    return sorted(found, key=lambda trigger: str(trigger.get("at")))


def own_incident(run: str, bases: Iterable[Path]) -> Path | None:
    """Return the newest incident in which this run has acted before it was tried again; None if there is none."""
    homes = sorted((home for base in bases for home in incidents_in(base)), key=lambda home: home.name, reverse=True)
    for log in (home / CUSTODY_LOG for home in homes):
        with suppress(OSError):
            if run and run.encode() in read_plain(log) and run in _own_runs(caught_lines(log)):
                return log.parent
    return None


def joined_message(incident: str) -> str:
    """Return the message of a run that joins."""
    return (
        f"{incident}: this trigger belongs to that incident and is kept in its custody log; nothing else was done. "
        "既存のインシデントに合流しました。"
    )


def past(bases: Iterable[Path]) -> Iterator[Past]:
    """Yield what each incident of this host has contained, as far as it can be read."""
    every = list(bases)
    # of a cordon without a living guard there may be only the marker, after a reboot
    markers = [base / CORDON for base in every if LinuxHost().guard(base / CORDON)]
    standing = {known_id(read_marker(marker).get("incident")) for marker in markers} - {""}
    homes = sorted((home for base in every for home in incidents_in(base)), key=lambda home: home.name)
    for home in homes:
        entries, word = list(caught_lines(home / CUSTODY_LOG)), last_word(home)
        # a thaw that was killed half-way counts: what it has thawed may fail again
        thawed = word not in CONTAINED and any(each.get("step_id") == "thaw" for each in entries)
        rows = [*_rows(home, of_any_boot(FROZEN)), *_rows(home, of_any_boot(FROZEN_CONTAINERS))]
        here = [*_rows(home, FROZEN), *_rows(home, RETURNED)]
        rows, here = ([], []) if thawed else (rows, here)
        if home == homes[-1] and not thawed:
            here += [row for base in every for row in caught_lines(base / CAUGHT)]
        yield Past(
            incident=home.name,
            runs=frozenset({*_strings(rows, "run"), *_own_runs(entries)}),
            processes=frozenset(identity for row in here if (identity := Identity.of(row))),
            stands=home.name in standing and word in CONTAINED,
            lifted=_find_lift(entries),
            thawed=thawed,
        )


def _rows(home: Path, journals: str) -> Iterator[Mapping[str, Any]]:
    for path in home.glob(journals):
        yield from rows_of(path, read_plain)


def _own_runs(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if isinstance(actor := entry.get("actor"), dict):
            yield from _strings([actor], "run")


def _strings(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[str]:
    return (row[name] for row in rows if isinstance(row.get(name), str) and row[name])


def _find_lift(entries: Iterable[Mapping[str, Any]]) -> datetime | None:
    times = [entry["utc"] for entry in entries if entry.get("action") in {"uncordoned", "thawed"}]
    with suppress(IndexError, TypeError, ValueError):
        return datetime.fromisoformat(times[-1])
    return None


def take_over_triggers(home: Path, log: CustodyLog) -> None:
    """Log each trigger that is not in the log yet. Keeps the files, which are created only once."""
    if triggers := read_triggers(home):
        known = {entry["object"] for entry in log.entries() if entry["action"] == "triggered"}
        for trigger in (each for each in triggers if str(each.get("run")) not in known):
            log.write("triggered", str(trigger.get("run")), joined_at=trigger.get("at"), alarm=trigger.get("alarm"))
