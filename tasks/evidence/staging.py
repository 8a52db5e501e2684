"""§4: move what an attempt has acquired to its place in the evidence. What lies there already is never lost."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.collectors.room import move
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.store.manifest import digest
from tasks.runtime.context import RunContext
from tasks.system.disk_reserve import with_reserve

_STAGING = "staging"


@dataclass(frozen=True)
class Staging:
    """Where one attempt puts what it acquires: on the evidence disk, and on the fallback disk if there is one."""

    folder: Path
    fallback: Path | None


@contextmanager
def staging(context: RunContext, collector: str) -> Iterator[Staging]:
    """Empty folders for an attempt, gone afterwards."""
    folder = context.directory.path / _STAGING / collector
    fallback = context.directory.fallback / _STAGING / collector if context.directory.fallback else None
    for each in filter(None, (folder, fallback)):
        shutil.rmtree(each, ignore_errors=True)
    with_reserve(context.directory.reserve, 1, lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True))
    if fallback:
        try:
            fallback.mkdir(mode=0o700, parents=True)
        except OSError:
            fallback = None  # that disk is full, or gone: then there is one place less
    try:
        yield Staging(folder, fallback)
    finally:
        for each in filter(None, (folder, fallback)):
            shutil.rmtree(each, ignore_errors=True)


def keep(context: RunContext, at: Staging, file: StoredFile) -> StoredFile:
    """Move a whole file into the evidence folder, or into its twin on the fallback disk; say where it lies now."""
    return with_reserve(context.directory.reserve, 1, lambda: _keep(context, at, file))


def _keep(context: RunContext, at: Staging, file: StoredFile) -> StoredFile:
    folder, fallback_volume = (
        context.directory.evidence_dir(context.run.volume),
        context.directory.fallback_dir(context.run.volume),
    )
    for base in filter(None, (folder, fallback_volume)):
        if (base / file.stored).exists():
            if digest(base / file.stored) == file.sha256:
                return replace(file, where="" if base == folder else str(base))
            put_aside(base, file.stored)
    if file.in_place:
        return file
    source, base = (
        (at.fallback, fallback_volume) if file.where and at.fallback and fallback_volume else (at.folder, folder)
    )
    base.mkdir(mode=0o700, exist_ok=True)
    move(source / file.stored, base / file.stored)
    return replace(file, where="" if base == folder else str(base))


def put_aside(base: Path, stored: str) -> str:
    """What another attempt got, and is different, is kept beside; gives back the name that it has there."""
    number = next(n for n in itertools.count(1) if not (base / f"attempt-{n}" / stored).exists())
    move(base / stored, base / f"attempt-{number}" / stored)
    return f"attempt-{number}/{stored}"
