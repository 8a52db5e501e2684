"""Define the ledger: what a store has taken, by its own check of the digest, a line an object.

It says what need not be sent again, and where the same content may lie already; it proves nothing. Whoever relies on
it asks the store. Torn and foreign lines are passed over: what is not known is sent again, and found to be there.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """An object that was proven to be in a place when this was written."""

    place: str
    key: str
    sha256: str

    def to_line(self) -> bytes:
        """One line, its end included. Law: reading it gives the same entry."""
        return json.dumps(vars(self), ensure_ascii=True, sort_keys=True).encode() + b"\n"


def entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """What can be read. Law: of a file that is cut off anywhere, the entries of the lines that are whole."""
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
