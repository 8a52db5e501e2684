"""§4: move what an attempt has collected into the evidence folder. Never loses what lies there already."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.acquisition.room import move
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.store.manifest import digest
from tasks.incident.paths import IncidentDirectory
from tasks.system.files.disk_reserve import with_reserve

_STAGING = "staging"


@dataclass(frozen=True)
class Staging:
    """Folders that one attempt writes to: on the evidence disk, and on the fallback disk if there is one."""

    folder: Path
    fallback: Path | None


@contextmanager
def staging(directory: IncidentDirectory, collector: str) -> Iterator[Staging]:
    """Create empty folders for an attempt, and remove them afterwards."""
    folder = directory.path / _STAGING / collector
    fallback = directory.fallback / _STAGING / collector if directory.fallback else None
    for each in filter(None, (folder, fallback)):
        shutil.rmtree(each, ignore_errors=True)
    with_reserve(directory.reserve, 1, lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True))
    if fallback:
        try:
            fallback.mkdir(mode=0o700, parents=True)
        except OSError:
            fallback = None  # that disk is full or gone: one place less
    try:
        yield Staging(folder, fallback)
    finally:
        for each in filter(None, (folder, fallback)):
            shutil.rmtree(each, ignore_errors=True)


def keep(directory: IncidentDirectory, volume: int, at: Staging, file: StoredFile) -> StoredFile:
    """Move a complete file to the evidence folder, or to the fallback disk's; return its record with the new place."""
    folder, fallback = directory.evidence_dir(volume), directory.fallback_volume(volume)
    for base in filter(None, (folder, fallback)):
        if (base / file.stored).exists():
            if (base / file.stored).is_file() and digest(base / file.stored) == file.sha256:
                return replace(file, where="" if base == folder else str(base))
            put_aside(base, file.stored)
    if file.in_place:
        return file
    source, base = (at.fallback, fallback) if file.where and at.fallback and fallback else (at.folder, folder)
    base.mkdir(mode=0o700, exist_ok=True)
    move(source / file.stored, base / file.stored)
    return replace(file, where="" if base == folder else str(base))


def put_aside(base: Path, stored: str) -> str:
    """Rename another attempt's different file to attempt-N/, and return its new name."""
    number = next(n for n in itertools.count(1) if not (base / f"attempt-{n}" / stored).exists())
    move(base / stored, base / f"attempt-{number}" / stored)
    return f"attempt-{number}/{stored}"
