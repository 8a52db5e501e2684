"""Read and append the ledger of an incident on disk, and read those of earlier incidents beside it.

It has a line for each object that a store accepted after checking its digest: a hint for what need not be sent
again and where content may already be. It proves nothing, so readers ask the store. Torn and unknown lines are
skipped: the object is then sent again and found present.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from blocks.workload import Workload
from tasks.incident.directory import homes
from tasks.incident.layout import LEDGER

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An object that was proven to be at a place when this was written."""

    place: str
    key: str
    sha256: str

    def to_line(self) -> bytes:
        """Return the entry as one line with its end."""
        return json.dumps(vars(self), ensure_ascii=True, sort_keys=True).encode() + b"\n"


def entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the readable entries. A file cut off anywhere yields its complete lines."""
    for line in lines:
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            fields = json.loads(line)
            found = Entry(place=fields["place"], key=fields["key"], sha256=fields["sha256"])
            if line.endswith(b"\n") and all(isinstance(each, str) for each in vars(found).values()):
                yield found


class Ledger:
    """Ledger of proven uploads. Thread-safe: each line is written whole, after any line that a crash cut short."""

    def __init__(self, home: Path, place: str) -> None:
        """Read the entries that earlier runs of the incident wrote for this store."""
        self._path, self._place, self._lock = home / LEDGER, place, Lock()
        self.known = {each.key: each.sha256 for each in _read(self._path) if each.place == place}

    def note(self, key: str, sha256: str) -> None:
        """Append an uploaded object for later runs. A disk that is full costs them time, nothing else."""
        if self.known.get(key) == sha256:
            return
        with self._lock:
            try:
                self._append(Entry(self._place, key, sha256).to_line())
            except OSError as error:
                logger.warning("%s takes no more: %s. A later run may send again what is there.", self._path, error)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            whole = not end or os.pread(descriptor, 1, end - 1) == b"\n"
            os.write(descriptor, line if whole else b"\n" + line)
        finally:
            os.close(descriptor)


def elsewhere(workload: Workload, own: Path, place: str, digests: Iterable[str]) -> dict[str, str]:
    """Return keys by SHA-256 at which incidents of this host but the `own` one have uploaded wanted content."""
    digests, found = frozenset(digests), dict[str, str]()
    for home in homes(workload):
        for each in _read(home / LEDGER) if home != own else ():
            if each.place == place and each.sha256 in digests:
                found.setdefault(each.sha256, each.key)
    return found


def _read(path: Path) -> Iterable[Entry]:
    """Read the entries of a file; none if it is missing or not readable for us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        yield from entries(file)
