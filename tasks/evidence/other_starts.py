"""Tell which of the API's processes come back only by themselves: not with the one that is compared."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from shutil import which
from typing import Any, Final, TypeAlias

from tasks.custody.containment.identity import Identity
from tasks.incident.layout import STARTS, UNLIKE
from tasks.system.files.atomic_files import identities, read_private, rows_of

Start: TypeAlias = Mapping[str, Any]
_BETWEEN: Final = r"[\s/'\"();&|]"
_ENDS: Final = "(?:^|{}){}(?:{}|$)"


def find_beside(starts: Iterable[Start], compared: Start) -> list[Start]:
    """Return the starts that neither `compared` brings with it nor another of these.

    What only carries its command line, as `sh -c` or `flock` does, is not looked for: a command of the block takes its
    place. Of starts that were kept without their parents there is none.
    """
    rows = {each["pid"]: each for each in starts if "pid" in each}
    lines = {pid: _line_up(rows, pid) for pid in rows}
    own, found = compared.get("pid"), dict[int, Start]()
    for pid in sorted(lines, key=lambda pid: len(lines[pid])) if own in rows else ():
        carries = pid in lines[own] and _carries(rows[pid], compared)
        if pid != own and not carries and found.keys().isdisjoint(lines[pid]) and own not in lines[pid]:
            found[pid] = rows[pid]
    return [*found.values()]


def _line_up(rows: Mapping[int, Start], pid: int) -> list[int]:
    """Return a process and those above it, as far as they are of the API."""
    line = [pid]
    while (above := rows[line[-1]]["parent"]) in rows and above not in line:
        line.append(above)
    return line


def _carries(above: Start, start: Start) -> bool:
    """Return whether a command line has another one in it, from its script or module on."""
    words = start["command"][1:] or start["command"]
    text = " ".join([PurePath(words[0]).name, *words[1:]])
    return bool(re.search(_ENDS.format(_BETWEEN, re.escape(text), _BETWEEN), " ".join(above["command"])))


def with_unmended(starts: Sequence[Start], homes: Iterable[Path], living: Collection[Identity]) -> list[Start]:
    """Return how the API runs; of one that a recovery brought back otherwise than it ran, how it ran before that.

    Else the next recovery would find it as it was, and nobody would be told any more. `homes` are the folders of the
    host's incidents, `living` the processes that are to be kept. One that somebody has started since counts as it runs.
    """
    for home in sorted(homes, key=lambda home: home.name, reverse=True):
        if not identities([home / UNLIKE]).isdisjoint(living) and (former := rows_of(home / STARTS, read_private)):
            pairs = pair(former, starts)
            known = [now for _, now in pairs]
            kept = [{**was, **{name: now[name] for name in ("pid", "parent") if now}} for was, now in pairs]
            return [*kept, *(each for each in starts if not any(each is now for now in known))]
    return [*starts]


def pair(starts: Sequence[Start], now: Iterable[Start]) -> list[tuple[Start, Start]]:
    """Return each start that runs now with what has its command line, no process twice; {} if nothing has."""
    unpaired, found = [*now], list[tuple[Start, Start]]()
    for start in starts:
        same = next((each for each in unpaired if _is_same(start, each)), {})
        unpaired = [each for each in unpaired if each is not same]
        found.append((start, same))
    return found


def _is_same(was: Start, now: Start) -> bool:
    """Return whether two command lines are the same, also if only one has a file, or its program, by its whole path."""
    return was["command"] == now["command"] or _whole(was) == _whole(now)


def _whole(start: Start) -> list[str]:
    words = [_program(start), *start["command"][1:]] if start["command"] else []
    paths = [(word, os.path.normpath(Path(start["folder"], word))) for word in words]
    return [path if word and os.path.lexists(path) else word for word, path in paths]


def _program(start: Start) -> str:
    """Return the name of a program, a bare one with its path: where its start looked for it."""
    name = str(start["command"][0])
    path = start.get("variables", {}).get("PATH", "")
    found = which(name, path=path) if name and "/" not in name else None
    return f"{os.path.realpath(PurePath(found).parent)}/{name}" if found else name
