"""Write and check the custody log: append-only JSON lines, each with the hash of the previous (RFC 3227 §4.1)."""

import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

START = "0" * 64
_MAX_MESSAGES = 20


def chain_line(previous: str, sequence: int, fields: Mapping[str, Any]) -> bytes:
    """Return one line: the fields, its number, and the hash of the previous line."""
    entry = {"seq": sequence, "prev": previous, **fields}
    return (json.dumps(entry, ensure_ascii=True, allow_nan=False) + "\n").encode()


def head(line: bytes) -> str:
    """Return the hash of a line, which the next one carries."""
    return hashlib.sha256(line).hexdigest()


def broken(lines: Iterable[bytes], previous: str = START, sequence: int = 0) -> list[str]:
    """Check a chain from a known head. Returns a message for each dropped, swapped or edited line, 20 at most."""
    found = list(islice(_breaks(lines, previous, sequence), _MAX_MESSAGES + 1))
    return found if len(found) <= _MAX_MESSAGES else [*found[:_MAX_MESSAGES], "and more"]


def _breaks(lines: Iterable[bytes], previous: str, sequence: int) -> Iterator[str]:
    for line in lines:
        try:
            entry = json.loads(line)
            link, number = entry["prev"], entry["seq"]
        except (ValueError, KeyError, TypeError, RecursionError):
            yield f"line {sequence}: not a custody entry"
        else:
            if link != previous:
                yield f"line {sequence}: follows {str(link)[:12]}, not {previous[:12]}"
            if number != sequence:
                yield f"line {sequence}: is numbered {str(number)[:12]}"
        previous, sequence = head(line), sequence + 1


def _write_whole(descriptor: int, line: bytes) -> None:
    """Write a line or nothing: on a full disk, truncate a partial line, so that the next one begins on its own."""
    if (written := os.write(descriptor, line)) != len(line):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class CustodyLog:
    """The log of one incident on disk. Written by one process, the owner of the incident; safe for its threads."""

    def __init__(
        self, path: Path, actor: Mapping[str, str], make_room: Callable[[int], bool] = lambda _: False
    ) -> None:
        """Continue an earlier run's log. A last line torn by a kill is moved to a file beside the log.

        `began` becomes the number of this run's first line, 0 in the first run.
        `make_room` is called with the number of bytes missing on a full disk, and returns whether to try again.
        """
        self.path, self._make_room = path, make_room
        self._actor = dict(actor)
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        data = self.path.read_bytes() if self.path.exists() else b""
        whole, newline, torn = data.rpartition(b"\n")
        if torn:
            with self.path.with_suffix(".torn").open("ab") as beside:
                beside.write(torn + b"\n")
            os.truncate(self.path, len(whole) + len(newline))
        lines = self.lines()
        self.began = self._sequence = len(lines)
        self._head = head(lines[-1]) if lines else START

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Append one entry: time (UTC, zone, monotonic), actor, action, object, and further facts."""
        with self._lock:
            now = datetime.now(UTC)
            fields = {
                "utc": now.isoformat(timespec="microseconds"),
                "zone": now.astimezone().strftime("%Z %z"),
                "monotonic": round(time.monotonic(), 6),
                "actor": self._actor,
                "action": action,
                "object": subject,
                **facts,
            }
            line = chain_line(self._head, self._sequence, fields)
            self._head, self._sequence = head(line), self._sequence + 1
            self._waiting.append(line)
            try:
                self._flush()
            except OSError as error:
                logger.error("The custody log cannot be written, entries are kept in memory: %s", error)  # noqa: TRY400

    def _flush(self) -> None:
        """Write the entries in memory. A failing disk must not stop a containment; `sync` raises its error."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            while self._waiting:
                try:
                    _write_whole(descriptor, self._waiting[0])
                except OSError as error:
                    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                    if not is_full or not self._make_room(len(self._waiting[0])):
                        raise
                else:
                    del self._waiting[0]
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Flush everything written so far to disk. Raises OSError if the disk does not take it."""
        with self._lock:
            self._flush()
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def lines(self, start: int = 0) -> list[bytes]:
        """Return the lines from number `start` on: those on disk, then those in memory."""
        with self._lock:
            on_disk = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
            return [*on_disk, *self._waiting][start:]

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, parsed."""
        return [json.loads(line) for line in self.lines()]
