"""Define the ledger: objects that a store accepted after checking their digest, one line each.

It is a hint for what need not be sent again and where content may already be; it proves nothing, so readers ask the
store. Torn and unknown lines are skipped: the object is then sent again and found present.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


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
        if line.endswith(b"\n") and (entry := _entry(line)):
            yield entry


def _entry(line: bytes) -> Entry | None:
    try:
        found = json.loads(line)
        said = found["place"], found["key"], found["sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Entry(*said) if all(isinstance(each, str) for each in said) else None
