"""Read and write open.json: which incident of a workload is open, also one whose run was killed while it opened."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from os.path import lexists
from pathlib import Path

from pydantic import TypeAdapter

from blocks.workload_fields import WorkloadFields
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.verdict import Word
from tasks.host.process.table import boot_id
from tasks.incident.directory import base_of, bases, cordon_base, find_home
from tasks.incident.last_word import is_finished
from tasks.incident.layout import CLAIMED, CORDON, INCIDENT, OPEN, closings
from tasks.incident.run_lock import owner
from tasks.system.files.atomic_files import read_ours, write_whole

logger = logging.getLogger(__name__)


def last_opened(workload: WorkloadFields) -> bytes:
    """Return the newest open.json of the workload. Raises OSError if there is none."""
    return read_ours([base_of(workload) / OPEN, *_notes(workload)][-1])


def note_opened(workload: WorkloadFields, incident: Incident) -> bool:
    """Write down which incident is open, in the first base that takes it; False if none does."""
    content = TypeAdapter(Incident).dump_json(incident, indent=1)
    for base in bases(workload):
        with suppress(OSError):
            write_whole(base / OPEN, content, 0o644)
            return True
        with suppress(OSError):
            (base / OPEN).unlink()  # it names an older incident
    return False


@contextmanager
def opening(workload: WorkloadFields, incident: Incident) -> Iterator[None]:
    """Write down which incident is open before its folder is made, so that a run killed in between is carried on.

    If it could not be opened, this is undone, because every later run would insist on it. If the disk is full, there is
    no base before the folder is made; then it is written down afterwards.
    """
    before = dict[Path, bytes]()
    for path in _notes(workload):
        with suppress(OSError):
            before[path] = read_ours(path)
    noted = note_opened(workload, incident)
    try:
        yield
    except BaseException:
        for path in _notes(workload):
            with suppress(OSError):
                path.unlink()
        for path, content in before.items():
            with suppress(OSError):
                write_whole(path, content, 0o644)
        raise
    if not noted and not note_opened(workload, incident):
        logger.error("No disk could store which incident is open. To carry it on, give incident_id=%s", incident.id)


def _notes(workload: WorkloadFields) -> list[Path]:
    """Return the paths that exist, the newest last."""
    there = (base / OPEN for base in reversed(bases(workload)) if lexists(base / OPEN))
    return sorted(there, key=lambda path: path.lstat().st_mtime_ns)


def read_incident(home: Path) -> Incident | None:
    """Return the incident that an earlier run opened in this folder; None if there is none."""
    path = home / INCIDENT
    return TypeAdapter(Incident).validate_json(path.read_bytes()) if path.exists() else None


def last_verdict(home: Path) -> Word | None:
    """Return the verdict of the incident's last closed record; None if no run has closed."""
    closed = closings(home)
    return Word(json.loads(closed[-1].read_bytes())["verdict"]) if closed else None


def last_incident(workload: WorkloadFields) -> str | None:
    """Return the id of the incident that the last run opened; None if there is none, or the file is damaged."""
    incident = _last(workload)
    return incident.id if incident else None


def _last(workload: WorkloadFields) -> Incident | None:
    try:
        return TypeAdapter(Incident).validate_json(last_opened(workload))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, Refused) as error:
        logger.error("%s is damaged and ignored: %s", OPEN, error)  # noqa: TRY400
        return None


def unfinished_incident(workload: WorkloadFields) -> str | None:
    """Return the id of the incident that has to be carried on before another may be opened; None if there is none."""
    incident = _last(workload)
    if incident is None:
        return None
    home = find_home(workload, incident.id)
    if incident.boot != boot_id() and not (home / INCIDENT).exists():
        _tell_lost(incident.id)
        return None
    return None if (home / CLAIMED).exists() or is_finished(home) else incident.id


@cache
def _tell_lost(incident: str) -> None:
    """Log, once a process, that an incident cannot be carried on: another boot may not continue its claim."""
    message = "%s is over: its folder was lost with an earlier boot, as one in memory is. The next is another incident"
    logger.error(message, incident)


def at_work_or_left(workload: WorkloadFields) -> str:
    """Say which run is at work, which incident is not finished, or that a cordon stands; empty if none of these."""
    if purpose := owner(base_of(workload)):
        return f"a run is at work now: {purpose}"
    if unfinished := unfinished_incident(workload):
        return f"{unfinished} is not finished; the next evacuation carries it on"
    marker = cordon_base(workload) / CORDON
    return f"a cordon stands: {marker}" if marker.exists() else ""
