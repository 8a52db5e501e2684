"""Read and write open.json: which incident of a workload is open. One that was killed while it opened is carried on."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tasks.custody.incident.incident import Incident
from tasks.incident.directory import base_of, bases
from tasks.incident.layout import OPEN
from tasks.system.atomic_files import read_plain, write_whole

if TYPE_CHECKING:
    from blocks.workload import Workload

logger = logging.getLogger(__name__)


def last_opened(workload: "Workload") -> bytes:
    """What the last run wrote of the incident that it opened. OSError where there is nothing."""
    return read_plain([base_of(workload) / OPEN, *_notes(workload)][-1])


def note_opened(workload: "Workload", incident: Incident) -> bool:
    """Write down which incident is open, in the first base that takes it; False if none does."""
    said = TypeAdapter(Incident).dump_json(incident, indent=1)
    for base in bases(workload):
        try:
            write_whole(base / OPEN, said)
        except OSError:
            with suppress(OSError):
                (base / OPEN).unlink()  # an older incident's
        else:
            return True
    return False


@contextmanager
def opening(workload: "Workload", incident: Incident) -> Iterator[None]:
    """Write down which incident is open before its folder is made: a run that is killed in between is carried on.

    Taken back where it could not be opened, for every later run would insist on it. Where the disk is full there is
    no base to write it to before the folder is made; then it is written down afterwards.
    """
    before = _said(workload)
    noted = note_opened(workload, incident)
    try:
        yield
    except BaseException:
        _say_again(workload, before)
        raise
    if not noted and not note_opened(workload, incident):
        logger.error("Which incident is open could not be kept on disk: carry it on with incident_id=%s", incident.id)


def _notes(workload: "Workload") -> list[Path]:
    """Those that are there, the newest last."""
    there = (base / OPEN for base in reversed(bases(workload)) if lexists(base / OPEN))
    return sorted(there, key=lambda path: path.lstat().st_mtime_ns)


def _said(workload: "Workload") -> dict[Path, bytes]:
    said = {}
    for path in _notes(workload):
        with suppress(OSError):
            said[path] = read_plain(path)
    return said


def _say_again(workload: "Workload", said: Mapping[Path, bytes]) -> None:
    for path in _notes(workload):
        with suppress(OSError):
            path.unlink()
    for path, content in said.items():
        with suppress(OSError):
            write_whole(path, content)
