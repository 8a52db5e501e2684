"""Write the table of a fleet as lines of text: for the terminal, the progress in the UI, and the record alike."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from tasks.custody.fleet.frame import FrameAnswer
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.outcome_lines import fold, fold_names
from tasks.custody.fleet.verdict import all_that_answer_contained, is_settled
from tasks.custody.visible import visible

STANDING: Final = "of silent hosts stand until"
"""What the last line says once all that answer have their ends, and orders of others stand."""
_MESSAGES: Final = 10
_SHOWN: Final = 160
_QUIET: Final = frozenset({HostEnd.VERIFIED, HostEnd.THAWED, HostEnd.SILENT})


def headline(incident: FleetIncident, rows: Sequence[Row], contained_at: datetime | None) -> str:
    """Return one line: how many hosts, contained and ended, and whether all that answer are contained."""
    contained, ended = sum(row.is_contained for row in rows), sum(row.end is not None for row in rows)
    words = f"{incident.name}: {contained} of {len(rows)} contained, {ended} ended"
    if contained_at and all_that_answer_contained(rows):
        words += f"; all that answer are contained since {contained_at:%H:%M:%S} UTC"
    silent = sum(row.end is HostEnd.SILENT for row in rows)
    return words + (f"; {silent} SILENT" if silent else "")


def lines(incident: FleetIncident, rows: Sequence[Row], contained_at: datetime | None) -> Iterator[str]:
    """Yield the table: the headline, a line for hosts of like outcome, and what hosts say that did not end well."""
    yield headline(incident, rows, contained_at)
    folded = fold(rows)
    width = max(len(str(line.count)) for line in folded)
    yield from (f"  {line.count:>{width}}  {line.hosts} {line.label}" for line in folded)
    troubles = [row for row in rows if row.message and row.end and row.end not in _QUIET]
    yield from (f"  ! {row.host}: {visible(row.message, _SHOWN)}" for row in troubles[:_MESSAGES])
    if len(troubles) > _MESSAGES:
        yield f"  ! and {len(troubles) - _MESSAGES} more"
    if is_settled(rows) and (standing := [row for row in rows if row.stands and row.not_after]):
        until = max(row.not_after for row in standing if row.not_after)
        yield f"  {len(standing)} orders {STANDING} {until:%H:%M} UTC"


def freezes(rows: Sequence[Row], answers: Sequence[FrameAnswer], triggered: datetime) -> Iterator[str]:
    """Yield who was frozen by the frame and who by their runs, with seconds from the trigger, who is silent or refused.

    Nothing if no host has answered to a frame. Answers are displayed, and prove nothing: any client can send one.
    """
    names = {row.host for row in rows}
    ours = [each for each in answers if each.host in names]
    by_frame = {each.host: each.at for each in ours if each.done == "frozen" and each.at}
    by_run = {row.host: row.frozen_at for row in rows if row.frozen_at and row.host not in by_frame}
    silent = [row.host for row in rows if row.end is HostEnd.SILENT and not {row.host} & {*by_frame, *by_run}]
    if ours:
        yield from _after("by the frame, processes alone フレームで凍結（プロセスのみ）", by_frame, triggered)
        yield from _after("by their runs 各ランで凍結", by_run, triggered)
        yield from [f"  silent 応答なし: {fold_names(silent)}"] if silent else []
        refused = [each for each in ours if each.done == "refused" and each.host not in by_frame]
        yield from (f"  ! {each.host} refused the frame: {visible(each.why, _SHOWN)}" for each in refused[:_MESSAGES])
        thawed = [each.host for each in ours if each.done == "thawed"]
        yield from [f"  given back 解凍: {fold_names(thawed)}"] if thawed else []


def _after(how: str, frozen: Mapping[str, datetime], triggered: datetime) -> Iterator[str]:
    if frozen:
        first, last = ((at(frozen.values()) - triggered).total_seconds() for at in (min, max))
        yield f"  frozen {how}: {fold_names([*frozen])}, {first:.1f}-{last:.1f} s after the trigger"
