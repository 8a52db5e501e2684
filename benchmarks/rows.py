"""What a bench has measured, row by row: build/bench/NAME.json for machines, the same as a table for people."""

import json
import os
import signal
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.machine import Strangers, machine, versions

RESULTS: Final = Path(__file__).parents[1] / "build/bench"
_COLUMNS: Final = ("ours", "peer", "ratio")
_DISTURBED: Final = 0.1


@dataclass(frozen=True)
class Row:
    """One line of a result; `peer` and `ratio` are None where nothing is compared.

    `strangers` is the share of all processors that others used while it was measured.
    """

    what: str
    ours: float
    peer: float | None
    ratio: float | None
    goal: str
    holds: bool
    strangers: float = 0.0


def begin() -> Path:
    """Let SIGINT and SIGTERM end the bench in order, with what it has started; return a new folder of its own."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    folder = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


def quicker(what: str, ours: float, peer: float, times: float) -> Row:
    """The peer has to need so many times as much as we do."""
    goal = f"at least {times:g} times quicker"
    return Row(what, ours, peer, _ratio(peer, ours), goal, peer >= times * ours)


def at_most(what: str, ours: float, peer: float, times: float) -> Row:
    """We may need so many times as much as the peer."""
    return Row(what, ours, peer, _ratio(ours, peer), f"at most {times:g} times", ours <= times * peer)


def under(what: str, ours: float, limit: float) -> Row:
    """What is compared with a number alone."""
    return Row(what, ours, None, None, f"under {limit:g}", ours < limit)


def with_strangers(rows: Iterable[Row], *strangers: Strangers) -> list[Row]:
    """Return the rows with the largest share that strangers used while they were measured."""
    share = max(each.share for each in strangers)
    return [replace(row, strangers=max(row.strangers, share)) for row in rows]


def median(values: Iterable[float]) -> float:
    """To a hundredth: more would be noise."""
    return round(statistics.median(values), 2)


def write(name: str, rows: Sequence[Row], conditions: str) -> Path:
    """Keep the rows for machines, with machine and versions and what else the figures depend on; where they are."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    about = {"written": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", "machine": machine(), "versions": versions()}
    told = {"rows": [asdict(row) for row in rows], "conditions": conditions, **about}
    path.write_text(json.dumps(told, indent=2) + "\n")
    return path


def table(rows: Sequence[Row]) -> str:
    """The rows for people; one is marked if strangers used more than a tenth of the processors meanwhile."""
    cells = [[row.what, *map(_shown, (row.ours, row.peer, row.ratio)), row.goal, _word(row)] for row in rows]
    lines = [["", *_COLUMNS, "goal", "holds"], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, words to the left."""
    numbers = range(1, 1 + len(_COLUMNS))
    placed = [
        cell.rjust(width) if at in numbers else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(placed).rstrip()


def _ratio(over: float, below: float) -> float | None:
    return round(over / below, 2) if below else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _word(row: Row) -> str:
    word = "yes" if row.holds else "NO"
    return f"{word}, disturbed: strangers used {row.strangers:.0%}" if row.strangers > _DISTURBED else word
