"""Check the custody log across all segments as one hash chain."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from typing import Any, Final

from tasks.custody.audit.finding import AuditFinding, broken, note, printable
from tasks.custody.audit.untrusted import parse_time
from tasks.custody.incident import log

_NOWHERE: Final = 1 << 62
_SEARCHED: Final = 100_000


def lines_of(segment: bytes) -> list[bytes]:
    """Return a segment's lines with their ends."""
    return [line + b"\n" for line in segment.removesuffix(b"\n").split(b"\n")] if segment else []


def _entry(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def in_order(segments: Mapping[str, bytes]) -> list[str]:
    """Return the segments' keys in the order of writing, by the number of their first line."""

    def first(key: str) -> tuple[int, str]:
        number = _entry(segments[key].split(b"\n", 1)[0]).get("seq")
        return (number if isinstance(number, int) else _NOWHERE), key

    return sorted(segments, key=first)


def chain(segments: Mapping[str, bytes]) -> Iterator[AuditFinding]:
    """Yield each place where a line was dropped, swapped, edited or added, from the first line on."""
    previous, sequence = log.START, 0
    for key in in_order(segments):
        lines = lines_of(segments[key])
        trouble = log.broken(lines, previous, sequence)
        for message in trouble:
            what = f"the custody chain is broken: {printable(message)}"
            yield broken(key, what, "each line to carry the last one's hash")
        if segments[key] and not segments[key].endswith(b"\n"):
            yield broken(key, "the custody chain is broken: its last line is torn", "a whole line")
        previous = log.head(lines[-1]) if lines else previous
        sequence += len(lines)
        if not trouble:  # a clock that was set back is no break of the chain, but an auditor must know
            times = [time for line in lines if (time := parse_time(_entry(line).get("utc")))]
            for before, after in pairwise(times):
                if after < before:
                    yield note(key, f"the host's clock was set back: {after} follows {before}")
                    break


def last_verdict(segment: bytes) -> str:
    """Return the word of a segment's last verdict entry; empty if there is none."""
    entries = (_entry(line) for line in islice(reversed(lines_of(segment)), _SEARCHED))
    return next((str(entry.get("word", "")) for entry in entries if entry.get("action") == "verdict"), "")


def signing_entries(segment: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield signed or unsigned, name and digest of each manifest and closing in the entries of a segment."""
    for line in lines_of(segment):
        match _entry(line) if b'signed"' in line else {}:
            case {"action": "signed" | "unsigned" as action, "object": str(name), "digest": str(sha256)}:
                yield action, name, sha256
