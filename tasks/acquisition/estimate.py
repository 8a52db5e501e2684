"""Estimate the room that a collector's files need, by stat alone, before the first is copied."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tasks.acquisition.collector import Collector, Files, Target
from tasks.acquisition.matching import left_over
from tasks.acquisition.room import Room, size_on_disk
from tasks.custody.evidence.room import room_fields


def estimate(collector: Collector, target: Target, folder: Path) -> dict[str, object] | None:
    """Return the room and number of files for the custody log; None if it copies no files. Links count as zero."""
    sources = [source for source in collector.sources if isinstance(source, Files)]
    if not sources:
        return None
    return room_fields((size for source in sources for size in _sizes(source, target)), Room.of(target, folder).free)


def _sizes(source: Files, target: Target) -> Iterator[int]:
    root = os.fsencode(target.root)
    beside = [each for field in source.beside for each in target.globs[field]]
    names, _ = left_over(root, source.patterns or target.globs[source.field], beside)
    inodes = set()
    for name in names:
        with suppress(OSError):
            status = os.lstat(os.path.join(root, name))
            fits = not source.beside or target.goes_along(status.st_size)
            if fits and stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in inodes:
                inodes.add((status.st_dev, status.st_ino))
                yield size_on_disk(status)
