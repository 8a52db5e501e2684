"""Write the table of a fleet as lines of text: for the terminal, the progress in the UI, and the record alike."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from tasks.custody.fleet.ends import End, Row
from tasks.custody.fleet.fold import fold
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.verdict import all_that_answer_contained, settled
from tasks.custody.visible import visible

STANDING: Final = "of silent hosts stand until"
"""What the last line says once all that answer have their ends, and orders of others stand."""
_MESSAGES: Final = 10
_SHOWN: Final = 160
_QUIET: Final = frozenset({End.VERIFIED, End.THAWED, End.SILENT})


def headline(incident: FleetIncident, rows: Sequence[Row], contained_at: datetime | None) -> str:
    """Return one line: how many hosts, contained and ended, and whether all that answer are contained."""
    contained, ended = sum(row.is_contained for row in rows), sum(row.end is not None for row in rows)
    words = f"{incident.name}: {contained} of {len(rows)} contained, {ended} ended"
    if contained_at and all_that_answer_contained(rows):
        words += f"; all that answer are contained since {contained_at:%H:%M:%S} UTC"
    silent = sum(row.end is End.SILENT for row in rows)
    return words + (f"; {silent} SILENT" if silent else "")


def lines(incident: FleetIncident, rows: Sequence[Row], contained_at: datetime | None) -> Iterator[str]:
    """Yield the table: the headline, a line for hosts of like outcome, and what hosts say that did not end well."""
    yield headline(incident, rows, contained_at)
    folded = fold(rows)
    width = max(len(str(line.count)) for line in folded)
    yield from (f"  {line.count:>{width}}  {line.hosts} {line.label}" for line in folded)
    told = [row for row in rows if row.message and row.end and row.end not in _QUIET]
    yield from (f"  ! {row.host}: {visible(row.message, _SHOWN)}" for row in told[:_MESSAGES])
    if len(told) > _MESSAGES:
        yield f"  ! and {len(told) - _MESSAGES} more"
    if settled(rows) and (standing := [row for row in rows if row.stands and row.not_after]):
        until = max(row.not_after for row in standing if row.not_after)
        yield f"  {len(standing)} orders {STANDING} {until:%H:%M} UTC"
