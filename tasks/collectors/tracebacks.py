"""Collect traceback.txt: of each log of the workload the last tracebacks, whole, and its last lines.

Text, for people and for the postmortem. A log begins with a line `== NAME`, then come `-- N tracebacks, the last M:`
and `-- the last N lines:`. Everything quoted from the log is indented by four spaces, so that no log can forge a
heading. This summary is redacted; the log itself is in the evidence byte for byte.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import MIB, Collector, FunctionOutput, NothingThere, Target
from tasks.acquisition.matching import find_names
from tasks.acquisition.procfs import printable
from tasks.acquisition.reading import read_end
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact

_READ: Final = 4 * MIB
_LOGS: Final = 200
_TRACEBACKS: Final = 3
_LINES: Final = 40
_LONGEST: Final = 2000
_LONGEST_TRACEBACK: Final = 400
HEAD: Final = "Traceback (most recent call last):"
BETWEEN: Final = re.compile(
    r"\s*|\"\"\"|'''|.*(?:direct cause of the following exception|another exception occurred):\s*"
)
"""A line between two tracebacks of one chain."""


def tracebacks(lines: Iterable[str]) -> list[list[str]]:
    """Return each traceback with its chain of causes, from its heading to the line that names the exception."""
    blocks: list[list[str]] = []
    between: list[str] | None = None
    inside = False
    for line in lines:
        if HEAD in line:
            if inside or between is not None:
                blocks[-1] += [*(between or ()), line]
            else:
                blocks.append([line])
            inside, between = True, None
        elif inside:
            blocks[-1].append(line)
            inside = line.startswith((" ", "\t", "|", "+")) or not line.strip()
            between = None if inside else []
        elif between is not None:
            if BETWEEN.fullmatch(line):
                between.append(line)
            else:
                between = None
    return blocks


def unfold(text: str) -> Iterator[str]:
    """Yield the lines of a log; a JSON object with a traceback becomes the traceback's lines."""
    for line in text.split("\n"):
        texts = None
        if line.startswith("{") and HEAD in line:
            with suppress(ValueError, RecursionError):
                texts = [value for value in json.loads(line).values() if isinstance(value, str) and HEAD in value]
        yield from redact("\n".join(texts)).split("\n") if texts else [line]


def excerpt(name: str, text: str) -> str:
    """Return the section of one log."""
    lines = redact(text).split("\n")
    blocks = tracebacks(unfold("\n".join(lines)))
    shown = blocks[-_TRACEBACKS:]
    last = [line for line in lines if line.strip()][-_LINES:]
    parts = [f"== {name}", f"-- {len(blocks)} tracebacks, the last {len(shown)}:"]
    parts += [_indent(block) for block in shown]
    return "\n".join([*parts, f"-- the last {len(last)} lines:", _indent(last)]) + "\n"


def _indent(lines: list[str]) -> str:
    left_out = len(lines) - _LONGEST_TRACEBACK
    half = _LONGEST_TRACEBACK // 2
    some = lines if left_out <= 0 else [*lines[:half], f"[{left_out} lines left out]", *lines[-half:]]
    return "\n".join(f"    {printable([line[:_LONGEST].rstrip()])}" for line in some)


def make(target: Target) -> bytes:
    """Return all sections, the newest log last. An unreadable log says so; the collector of logs reports its loss."""
    root = Path(target.root)
    names, _ = find_names(os.fsencode(root), target.globs["logs"])
    if not names:
        raise NothingThere(f"no file matches {', '.join(target.globs['logs'])}")
    shown = sorted(names, key=lambda name: _when(root, name))[-_LOGS:]
    left_out = [f"{len(names) - _LOGS} older logs are left out\n"] if len(names) > _LOGS else []
    return "\n".join([*left_out, *(_of(root, name) for name in shown)]).encode(errors="backslashreplace")


def _when(root: Path, name: bytes) -> int:
    with suppress(OSError):
        return (root / os.fsdecode(name)).lstat().st_mtime_ns
    return 0


def _of(root: Path, name: bytes) -> str:
    try:
        data = read_end(root, os.fsdecode(name), _READ)
    except OSError as error:
        return f"== {quote(name)}\n-- not read: {error.strerror or error}\n"
    whole = data if len(data) < _READ else data.partition(b"\n")[2]
    without_holes = whole.replace(b"\0", b"")  # a secret may lie on both sides of one
    return excerpt(quote(name), without_holes.decode(errors="backslashreplace"))


COLLECTOR = Collector(
    name="tracebacks",
    answers="With which error did the workload end, and what did it say last?",
    order=63,
    sources=(FunctionOutput(make, "traceback.txt"),),
    deadline=60.0,
    stalled=60.0,
)
