"""Fold the table of a fleet: hosts of like outcome share a line, as in `gpu[001-097] Verified`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tasks.custody.fleet.host_end import HostEnd, Row

_NUMBERED: Final = re.compile(r"(.*?)(\d+)(\D*)", re.ASCII)
_ORDER: Final = {end: place for place, end in enumerate(reversed(HostEnd))}


@dataclass(frozen=True)
class OutcomeLine:
    """Hosts of like outcome: their folded names, how many, and the outcome."""

    hosts: str
    count: int
    label: str


def fold(rows: Iterable[Row]) -> list[OutcomeLine]:
    """Return the lines of the table: good ends first, then bad ones, then what is not over."""
    groups = dict[tuple[int, str], list[str]]()
    for row in rows:
        place = _ORDER[row.end] if row.end else len(_ORDER)
        groups.setdefault((place, row.label), []).append(row.host)
    return [OutcomeLine(fold_names(names), len(names), label) for (_, label), names in sorted(groups.items())]


def fold_names(names: Sequence[str]) -> str:
    """Return names with their numbers as ranges: `gpu[001-003,007],web`. Each name is in it once, and no other."""
    parts = [(match[1], match[3], match[2]) for name in names if (match := _NUMBERED.fullmatch(name))]
    plain = [name for name in names if not _NUMBERED.fullmatch(name)]
    folded = list[str]()
    for (before, after), some in groupby(sorted(set(parts)), key=lambda part: part[:2]):
        numbers = sorted((number for _, _, number in some), key=lambda number: (len(number), number))
        words = [first if first == last else f"{first}-{last}" for first, last in _ranges(numbers)]
        listed = ",".join(words)
        folded.append(f"{before}{listed if len(numbers) == 1 else f'[{listed}]'}{after}")
    return ",".join([*folded, *sorted(set(plain))])


def _ranges(numbers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield first and last of each run of numbers of one width: 9 and 10 are apart, so that a range reads one way."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if len(number) != len(last) or int(number) != int(last) + 1:
            yield first, last
            first = number
        last = number
    yield first, last
