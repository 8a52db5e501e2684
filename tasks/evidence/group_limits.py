"""Tell by which limits its control groups, and those above them, hold a process, in version 1 and 2.

A path says little: sessions, scopes of systemd and an incident make groups of their own. What holds is the tightest.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from tasks.collectors.cgroups import groups_in, mounts
from tasks.system.kernel_tables import read_table, unescape

Limits: TypeAlias = dict[str, int | float | str]
"""Each limit by a name for people. One that cannot be read has the path of its group: the same path, the same limit."""
Place: TypeAlias = tuple[str, str]
"""Hierarchy and path of a group, as /proc/PID/cgroup has them; version 2 has an empty name."""

_PROCESSES: Final = "limit of processes"
_FILES: Final = {
    "memory limit": ("memory.max", "memory.limit_in_bytes"),
    "memory throttle": ("memory.high",),
    "swap limit": ("memory.swap.max",),
    "memory and swap limit": ("memory.memsw.limit_in_bytes",),
    _PROCESSES: ("pids.max",),
}
_DEVICES: Final = {
    "blkio.throttle.read_bps_device": "rbps",
    "blkio.throttle.write_bps_device": "wbps",
    "blkio.throttle.read_iops_device": "riops",
    "blkio.throttle.write_iops_device": "wiops",
}
_UNITS: Final = {
    _PROCESSES: "processes",
    "processor limit": "processors",
    "rbps": "bytes per second",
    "wbps": "bytes per second",
    "riops": "per second",
    "wiops": "per second",
}
_CONTROLLERS: Final = frozenset({"", "memory", "cpu", "pids", "blkio"})
_ENDLESS: Final = 1 << 62
_UNREAD: Final = "limits in the group of"
_SYSTEMD: Final = frozenset({".slice", ".scope", ".service"})
_SHARES: Final = (15, 33)
"""Percent of the host's processes that systemd by itself allows a unit, and all sessions of a user."""


def places_of(text: str) -> list[Place]:
    """Return where a process is, from the text of /proc/PID/cgroup."""
    return [each for each in groups_in(text) if not _CONTROLLERS.isdisjoint(each[0].split(","))]


def limits_of(places: Iterable[Place]) -> Limits:
    """Return the tightest limits in these groups and those above. A group that is not there has none."""
    mounted = mounts(read_table("/proc/self/mountinfo"))
    found, unread = dict[str, int | float](), dict[str, str]()
    for hierarchy, path in places:
        top, place = map(unescape, mounted.get(hierarchy, ("", "")))
        relative = os.path.relpath(path, top) if top and path.startswith("/") else ".."
        if ".." in (*PurePosixPath(path).parts, *PurePosixPath(relative).parts):
            unread[f"{_UNREAD} {hierarchy or 'v2'}"] = path
            continue
        folder = Path(place, relative)
        for each in (above for above in (folder, *folder.parents) if above.is_relative_to(place)):
            try:
                for name, value in _limits(each):
                    found[name] = min(value, found.get(name, value))
            except (OSError, ValueError):
                unread[f"{_UNREAD} {hierarchy or 'v2'}"] = path
    return {**found, **unread}


def _limits(folder: Path) -> Iterator[tuple[str, int | float]]:
    """Yield the limits of one group."""
    for name, files in _FILES.items():
        for text in filter(None, (_read(folder / each) for each in files)):
            if 0 <= (value := _number(text)) < _ENDLESS and not (name == _PROCESSES and _is_usual(folder, value)):
                yield name, value
    older = [_read(folder / each) for each in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    quota, period = _read(folder / "cpu.max").split() or older
    if quota and (most := _number(quota)) > 0:
        yield "processor limit", round(most / int(period), 4)
    rows = [line.split() for line in _read(folder / "io.max").split("\n") if line]
    pairs = [(device, *word.split("=", 1)) for device, *words in rows for word in words]
    for file, kind in _DEVICES.items():
        pairs += [(line.split()[0], kind, line.split()[1]) for line in _read(folder / file).split("\n") if line]
    for device, kind, rate in pairs:
        if (most := _number(rate)) >= 0:
            yield f"{kind} limit for device {device}", most


def _read(file: Path) -> str:
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    return ""


def _number(text: str) -> int:
    """Return the number in a group's file; -1 for none."""
    return -1 if text == "max" else int(text)


def _is_usual(folder: Path, most: int) -> bool:
    """Return whether systemd limits each unit of that kind so: nobody has chosen it, and the next scope has another."""
    files = map(Path, ("/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"))
    everything = min(int(file.read_text()) for file in files)
    return folder.suffix in _SYSTEMD and any(abs(most - everything * share // 100) <= 1 for share in _SHARES)


def tell_changes(was: Mapping[str, int | float | str], now: Mapping[str, int | float | str]) -> list[str]:
    """Return the limits that are not as they were, each with its value, and with what it is now if there is one."""
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return [_tell(name, was.get(name), now.get(name)) for name in names]


def _tell(name: str, before: float | str | None, after: float | str | None) -> str:
    if name.startswith(_UNREAD):
        return f"{name}, which cannot be read"
    values = "none" if before is None else f"{before}", *([] if after is None else [f"{after}"])
    unit = _UNITS.get(name) or _UNITS.get(name.split(maxsplit=1)[0], "bytes")
    return f"{name} of its control group, {' -> '.join(values)} {unit}"
