"""§8: quote the workload's summaries, its scores and the errors in its logs from the evidence."""

import fnmatch
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from tasks.collectors.tracebacks import BETWEEN, HEAD
from tasks.custody.evidence.acquisition import Evidence, StoredFile
from tasks.custody.evidence.redact import redact_fields
from tasks.custody.store.manifest import digest_bytes
from tasks.incident.paths import IncidentDirectory
from tasks.record.content import Quote, Quotes

logger = logging.getLogger(__name__)

_LIMIT: Final = 1 << 20
_INTERRUPT: Final = "KeyboardInterrupt"
_FILES: Final = 20


def quotes(directory: IncidentDirectory, coverage: Sequence[Evidence]) -> Quotes:
    """Read the quotes. Skips files that are unreadable or no longer as sealed."""
    return Quotes(
        summaries=tuple(_data(directory, coverage, "artifacts/summary_*.json")),
        scores=tuple(_data(directory, coverage, "scores.json")),
        tracebacks=tuple(
            Quote(log, text)
            for _, data in _read(directory, coverage, "traceback.txt")
            for log, text in find_tracebacks(data.decode(errors="backslashreplace"))
        ),
    )


def _data(directory: IncidentDirectory, coverage: Iterable[Evidence], pattern: str) -> Iterable[Quote]:
    for name, data in _read(directory, coverage, pattern):
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            continue
        yield Quote(name, redact_fields(content))


def _read(directory: IncidentDirectory, coverage: Iterable[Evidence], pattern: str) -> Iterable[tuple[str, bytes]]:
    small = ((item.volume, file) for item in coverage for file in item.files if file.size <= _LIMIT)
    copied = ((volume, file) for volume, file in small if not file.in_place)
    found = {(volume, file.stored): file for volume, file in copied if fnmatch.fnmatchcase(file.stored, pattern)}
    for (volume, name), file in sorted(found.items())[:_FILES]:
        data = _content(directory, volume, file)
        if data is not None:
            yield name, data


def _content(directory: IncidentDirectory, volume: int, file: StoredFile) -> bytes | None:
    try:
        with directory.locate(volume, file).open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    except OSError as error:
        logger.error("The postmortem goes without %s: %s", file.stored, error)  # noqa: TRY400
        return None
    if digest_bytes(data) != file.sha256:
        logger.error("The postmortem goes without %s: it is not what was sealed", file.stored)
        return None
    return data


def find_tracebacks(text: str) -> tuple[tuple[str, str], ...]:
    """Return the logs in traceback.txt that hold tracebacks, with these. Headings are never indented, contents are.

    An interrupt at the end is the answer to a signal, such as that of our stop, and no error.
    """
    tracebacks: dict[str, list[str]] = {}
    name, is_traceback = "", False
    for line in text.splitlines():
        if line.startswith("== "):
            name, is_traceback = line.removeprefix("== "), False
        elif line.startswith("-- "):
            is_traceback = " tracebacks" in line and not line.startswith("-- 0 ")
        elif is_traceback:
            tracebacks.setdefault(name, []).append(line.removeprefix("    "))
    found = ((name, "\n".join(_cut_interrupts(lines))) for name, lines in tracebacks.items())
    return tuple((name, text) for name, text in found if text)


def _cut_interrupts(lines: Sequence[str]) -> Sequence[str]:
    while lines and lines[-1].startswith(_INTERRUPT):
        first = max((at for at, line in enumerate(lines) if HEAD in line), default=0)
        kept = [at for at, line in enumerate(lines[:first]) if not BETWEEN.fullmatch(line)]
        lines = lines[: max(kept, default=-1) + 1]
    return lines
