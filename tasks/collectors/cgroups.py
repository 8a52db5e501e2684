"""Collect limits and OOM kills of the frozen processes' control groups and those above, of version 1 and 2."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tasks.acquisition.collector import Collector, FunctionOutput, Target
from tasks.acquisition.procfs import still, text
from tasks.custody.store.manifest import canonical

_FILES: Final = (
    *("memory.max", "memory.high", "memory.current", "memory.peak", "memory.events", "memory.swap.max"),
    *("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    *("memory.oom_control", "memory.oom.group", "memory.pressure", "cpu.pressure", "io.pressure"),
    *("cpu.max", "cpu.weight", "cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"),
    *("cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems", "pids.max", "pids.current", "pids.events"),
    *("cgroup.freeze", "cgroup.events", "io.max"),
)
_MOST: Final = 1 << 16


def make(target: Target) -> bytes:
    """Return one object a group, with the pids directly in it, and the host's count of OOM kills."""
    groups: dict[tuple[str, str], list[int]] = {}
    for pid, start in target.frozen:
        for hierarchy, path in _places(pid) if still(pid, start) else ():
            groups.setdefault((hierarchy, path), []).append(pid)
            for above in PurePosixPath(path).parents:
                groups.setdefault((hierarchy, str(above)), [])
    mounted = mounts(text(os.getpid(), "mountinfo"))
    rows = [
        {"hierarchy": hierarchy or "v2", "path": path, "pids": pids, **_limits(mounted.get(hierarchy), path)}
        for (hierarchy, path), pids in sorted(groups.items())
    ]
    return canonical({"groups": rows, "host_oom_kills": oom_kills(Path("/proc/vmstat").read_text())})


def _places(pid: int) -> Iterator[tuple[str, str]]:
    """Yield where a process is; version 2 has an empty name."""
    with suppress(OSError):
        yield from groups_in(text(pid, "cgroup"))


def groups_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield hierarchy and path of each group, from the text of /proc/PID/cgroup.

    The path's names are of who made the groups: they may hold a colon, and no newline.
    """
    for line in filter(None, text.split("\n")):
        hierarchy, _, path = line.partition(":")[2].partition(":")
        yield hierarchy, path


def mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    """Return for each hierarchy which of its groups is mounted, and where: with the kernel's escapes."""
    found: dict[str, tuple[str, str]] = {}
    for line in mountinfo.split("\n"):
        mount, _, filesystem = line.partition(" - ")
        words, kind = mount.split(" "), filesystem.split(" ")
        if kind[:1] == ["cgroup2"]:
            found.setdefault("", (words[3], words[4]))
        elif kind[:1] == ["cgroup"]:
            options = [each for each in kind[-1].split(",") if each not in {"rw", "ro", "xattr"}]
            found.setdefault(",".join(options), (words[3], words[4]))
    return found


def _limits(mounted: tuple[str, str] | None, path: str) -> dict[str, Any]:
    if mounted is None:
        return {"not read": "its hierarchy is not mounted in our namespace"}
    top, place = mounted
    relative = os.path.relpath(path, top)
    if relative.startswith("../") or relative == ".." or ".." in PurePosixPath(path).parts:
        return {"not read": "it lies outside of what we see"}
    folder = Path(place, relative)
    return {"files": {name: content for name in _FILES if (content := _read_file(folder / name)) is not None}}


def _read_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode(errors="backslashreplace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"not read: {error.strerror}"


def oom_kills(vmstat: str) -> int | str:
    """Return how often the kernel has killed for lack of memory since the boot."""
    counts = dict(line.split(maxsplit=1) for line in vmstat.splitlines() if " " in line)
    return int(counts["oom_kill"]) if "oom_kill" in counts else "not known"


COLLECTOR = Collector(
    name="cgroups",
    answers="Which limits did the workload run under, and did the kernel kill for them?",
    order=17,
    sources=(FunctionOutput(make, "cgroups.json"),),
    while_frozen=True,
)
