"""Build the table of the timeline from the custody log, in JST and UTC."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from typing import Any, Final

from tasks.custody.incident.timeline import frozen_at, moment
from tasks.incident.layout import CUSTODY_LOG
from tasks.record.labels import ACTIONS
from tasks.record.tables import titles
from tasks.rendering.clock import both_times
from tasks.rendering.document import ROW_LIMIT, Cell, DocumentTable, Figure, Quoted, Said

_OPENED: Final = "run opened"


def moments(entries: Sequence[Mapping[str, Any]]) -> DocumentTable:
    """Build the table. A long log loses its middle, because beginning and end matter most."""
    lines = _merge_cached(entry for entry in _with_beginnings(entries) if entry["action"] in ACTIONS)
    left_out = max(0, len(lines) - ROW_LIMIT)
    shown = lines[: ROW_LIMIT // 2] + lines[-ROW_LIMIT // 2 :] if left_out else lines
    head = titles(("JST", "JST"), ("UTC", "UTC"), ("何が", "what"), ("対象", "object"), ("結果", "result"))
    return DocumentTable(head, tuple(map(_moment, shown)), left_out, CUSTODY_LOG)


def _with_beginnings(entries: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the log; before each opening of a run, when it was asked for, and what was frozen before Prefect began."""
    for place, entry in enumerate(entries, 1):
        if entry["action"] == _OPENED:
            if "triggered" in entry:
                yield {**entry, "action": "run triggered", "utc": entry["triggered"], "reason": ""}
            later = takewhile(lambda each: each["action"] != _OPENED, entries[place:])
            times = [at for each in later if each["action"] == "frozen" and (at := frozen_at(each))]
            if early := [at for at in times if at < moment(entry["utc"])]:
                yield {"action": "frozen early", "utc": max(early).isoformat(), "object": f"{len(early)} processes"}
        yield entry


def _merge_cached(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Merge successive cached steps into one line."""
    lines: list[Mapping[str, Any]] = []
    for is_cached, group in groupby(entries, key=lambda entry: entry["action"] == "step cached"):
        several = list(group)
        names = {"object": f"{len(several)} steps", "result": "; ".join(str(entry["object"]) for entry in several)}
        lines += [{**several[0], **names}] if is_cached else several
    return lines


def _moment(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    jst, utc = both_times(datetime.fromisoformat(entry["utc"]))
    words = entry.get("result") or entry.get("word") or entry.get("reason") or ""
    result = f"{words} ({entry['seconds']} s)" if "seconds" in entry else str(words)
    return Figure(jst), Figure(utc), ACTIONS[entry["action"]], Quoted(str(entry["object"])), Said(result)
