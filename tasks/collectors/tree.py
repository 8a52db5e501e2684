"""Collect open files, limits, signals and maps of each frozen process. What may not be read says so in its place."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psutil

from tasks.acquisition.collector import Collector, FunctionOutput, Incomplete, Target
from tasks.acquisition.procfs import (
    fields,
    folder_of,
    limits,
    link,
    numbers,
    printable,
    signals,
    still,
    summarize_maps,
    text,
)
from tasks.collectors.sockets import descriptors, of_process
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.evidence.command_line_redaction import exists
from tasks.custody.evidence.keys import OWN_MOUNTS, TREE
from tasks.custody.evidence.pattern import literal_folder, matches_any, of_root
from tasks.custody.evidence.redact import redact_command, redact_environment
from tasks.custody.evidence.words import secret_name
from tasks.custody.models.inspection import is_named_as_model
from tasks.custody.store.manifest import canonical
from tasks.host.mounted import find_own_mounts
from tasks.host.process.open_files import mapped_files
from tasks.host.process.process import Process
from tasks.host.process.table import read_process

_MOST: Final = 2000
_SHARE: Final = 0.7
_DEEPEST: Final = 40
_DENIED: Final = "denied"
_GONE: Final = "gone"
_LATE: Final = "the time was used up"
_NO_FILE: Final = ("/dev/null", "/dev/pts/", "/dev/zero", "/memfd:", "/SYSV")
_ROW: Final = "{:>8} {:>8} {:<5} {:<12} {:>9} {:>7} {:<20} {}\n"


def _at_most(items: Iterable[Any]) -> list[Any]:
    """Return the first items; a process may hold a million, so the rest is named as not read."""
    some = list(islice(items, _MOST + 1))
    return some if len(some) <= _MOST else [*some[:_MOST], {"not read": f"more than {_MOST}"}]


def read_writing(pids: Iterable[int]) -> list[dict[str, Any]]:
    """Return the files that processes have open for writing, or mapped so that a write changes them, at most 2000.

    Of one that may not be read none. Terminals are left out.
    """
    found = list[dict[str, Any]]()
    for pid in pids:
        with suppress(OSError, ValueError):
            found += [*_open_files(pid), *_mapped_for_writing(pid)]
    return [dict(each) for each in select_written(found) if not each["to"].startswith(_NO_FILE)][:_MOST]


def _mapped_for_writing(pid: int) -> Iterator[dict[str, Any]]:
    for mode, path, (_, inode), _ in mapped_files(pid, text(pid, "maps")):
        if "s" in mode and "w" in mode:
            yield {"to": path, "mapped": True, "flags": f"0{os.O_RDWR:o}", "inode": str(inode)}


def select_written(opened: object) -> Iterator[Mapping[str, Any]]:
    """Yield those of a process's open files, as the tree lists them if it could, that have a name and are written."""
    for each in opened if isinstance(opened, list) else []:
        if each.get("flags") and each["to"].startswith("/") and int(each["flags"], 8) & os.O_ACCMODE:
            yield each


def _open_files(pid: int) -> Iterator[dict[str, Any]]:
    for number, to in descriptors(pid):
        with suppress(FileNotFoundError):
            info = fields(text(pid, f"fdinfo/{number}"))
            state = {"position": info.get("pos"), "flags": info.get("flags"), "inode": info.get("ino")}  # of Linux 5.14
            yield {"descriptor": number, "to": to, **state}


def _threads(pid: int) -> Iterator[dict[str, Any]]:
    for thread in numbers(f"{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = fields(text(pid, f"task/{thread}/status"))
            yield {"id": thread, "name": status.get("Name"), "state": status.get("State")}


def _users(pid: int) -> dict[str, Any]:
    status = fields(text(pid, "status"))
    return {"name": psutil.Process(pid).username(), "uids": status["Uid"].split(), "gids": status["Gid"].split()}


def _memory(pid: int) -> dict[str, Any]:
    names = ("VmPeak", "VmHWM", "VmSwap")
    status = fields(text(pid, "status"))
    return psutil.Process(pid).memory_info()._asdict() | {name: status[name] for name in names if name in status}


_QUESTIONS: dict[str, Callable[[int], Any]] = {
    "parent": lambda pid: psutil.Process(pid).ppid(),
    "command": lambda pid: redact_command(psutil.Process(pid).cmdline(), folder_of(pid)),
    "state": lambda pid: fields(text(pid, "status"))["State"],
    "started": lambda pid: datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC),
    "user": _users,
    "cwd": lambda pid: link(pid, "cwd"),
    "executable": lambda pid: link(pid, "exe"),
    "root": lambda pid: link(pid, "root"),
    "cpu_seconds": lambda pid: psutil.Process(pid).cpu_times()._asdict(),
    "memory": _memory,
    "threads": lambda pid: _at_most(_threads(pid)),
    "signals": lambda pid: signals(text(pid, "status")),
    "limits": lambda pid: limits(text(pid, "limits")),
    "open_files": lambda pid: _at_most(_open_files(pid)),
    "sockets": lambda pid: _at_most(of_process(pid)),
    "maps": lambda pid: _at_most(summarize_maps(text(pid, "maps"))),
    "cgroup": lambda pid: text(pid, "cgroup").rstrip("\n").split("\n"),
    "namespaces": lambda pid: {each.name: link(pid, f"ns/{each.name}") for each in Path(f"/proc/{pid}/ns").iterdir()},
    "nice": lambda pid: psutil.Process(pid).nice(),
    "oom_score_adj": lambda pid: int(text(pid, "oom_score_adj")),
}


def _environment(pid: int, root: str, patterns: Sequence[str]) -> dict[str, str]:
    """Return the variables; one that names a model's file, or a folder of models, that is there is shown."""
    given, places = psutil.Process(pid).environ(), [folder_of(pid), root]
    places += [f"{root}/{literal_folder(each)}" for each in patterns]
    shown = {
        name: value
        for name, value in given.items()
        if any(
            exists(path, place) and (is_named_as_model(path) or _is_of_models(name, f"{place}/{path}", root, patterns))
            for path in (value, value.removeprefix("file://"))
            for place in ("" if path.startswith("/") else each for each in dict.fromkeys(places))
        )
    }
    return redact_environment(given) | shown


def _is_of_models(variable: str, path: str, root: str, patterns: Sequence[str]) -> bool:
    """Return whether a path in the root is a model by these patterns, or lies where they look, for no secret's name."""
    names = [os.path.relpath(path, each) for each in (root, os.path.realpath(root))]
    folders = [folder for each in patterns if (folder := literal_folder(each))]
    found = (
        matches_any(name, patterns) or any(f"{name}/".startswith(f"{each}/") for each in folders) for name in names
    )
    return not secret_name(variable, alone=True) and bool(path.rpartition("/")[2].strip(".")) and any(found)


def _ask(pid: int, question: Callable[[int], Any]) -> Any:
    try:
        return question(pid)
    except (PermissionError, psutil.AccessDenied):
        return {"not read": _DENIED}
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return {"not read": _GONE}
    except Exception as error:  # noqa: BLE001  the kernel's tables of a hostile process may hold anything
        return {"not read": str(error) or type(error).__name__}


def _describe(pid: int, start: int, questions: Mapping[str, Callable[[int], Any]], until: float) -> dict[str, Any]:
    fields: dict[str, Any] = {"pid": pid, "start_ticks": start}
    if time.monotonic() >= until:
        return fields | {"not read": _LATE}
    if not still(pid, start):
        return fields | {"not read": _GONE}
    return fields | {name: _ask(pid, question) for name, question in questions.items()}


def make(target: Target) -> bytes:
    """Return one object a process. What could not be read says so in its place."""
    until = time.monotonic() + target.seconds * _SHARE
    patterns = of_root(target.globs.get("models", ()))
    environment = partial(_environment, root=str(target.root), patterns=patterns)
    own_mounts = partial(find_own_mounts, root=str(target.root))
    questions: dict[str, Callable[[int], Any]] = {**_QUESTIONS, "environment": environment, OWN_MOUNTS: own_mounts}
    described = [_describe(pid, start, questions, until) for pid, start in target.frozen]
    children: dict[int, list[int]] = {}
    for process in described:
        children.setdefault(process.get("parent", 0), []).append(process["pid"])
    for process in described:
        process["children"] = children.get(process["pid"], [])
    data = canonical(described)
    late = [process for process in described if process.get("not read") == _LATE]
    answers = ((name, value) for process in described for name, value in process.items())
    denied = sorted({name for name, value in answers if value == {"not read": _DENIED}})
    if late:
        raise Incomplete(data, Outcome.TIMED_OUT, f"{len(late)} of {len(described)} processes not read: {_LATE}")
    if denied:
        raise Incomplete(data, Outcome.DENIED, f"{', '.join(denied)} of some processes may not be read")
    return data


def draw(target: Target) -> bytes:
    """Return the same processes as a tree like `ps f`, for people."""
    found = (read_process(pid) for pid, start in target.frozen if still(pid, start))
    processes = {process.pid: process for process in found if process}
    rows = [_ROW.format("PID", "PPID", "STATE", "USER", "CPU", "RSS", "STARTED", "COMMAND")]
    for process, depth in _down(processes):
        branch = "  " * min(depth - 1, _DEEPEST) + "\\_ " if depth else ""
        words = printable(redact_command(process.command, process.cwd)) or "[no command line]"
        cells = [_cell(process.pid, question) for question in _COLUMNS]
        rows.append(_ROW.format(process.pid, process.parent, process.state, *cells, branch + words))
    return "".join(rows).encode(errors="backslashreplace")


def _down(processes: dict[int, Process]) -> Iterator[tuple[Process, int]]:
    """Yield parents before their children, each with its depth; without recursion, because a chain may be endless."""
    children: dict[int, list[int]] = {}
    for pid, process in sorted(processes.items(), reverse=True):
        children.setdefault(process.parent if process.parent in processes else 0, []).append(pid)
    places = [(pid, 0) for pid in children.get(0, [])]
    while places:
        pid, depth = places.pop()
        yield processes[pid], depth
        places += [(child, depth + 1) for child in children.get(pid, [])]


_COLUMNS: Final[tuple[Callable[[psutil.Process], object], ...]] = (
    lambda process: process.username()[:12],
    lambda process: f"{sum(process.cpu_times()[:2]):.1f}s",
    lambda process: f"{process.memory_info().rss >> 20}M",
    lambda process: datetime.fromtimestamp(process.create_time(), UTC).strftime("%FT%TZ"),
)


def _cell(pid: int, question: Callable[[psutil.Process], object]) -> str:
    with suppress(psutil.Error):
        return str(question(psutil.Process(pid)))
    return "?"


COLLECTOR = Collector(
    name="tree",
    answers="What did each process of the workload do, hold and listen to?",
    order=14,
    sources=(FunctionOutput(make, TREE), FunctionOutput(draw, "tree.txt")),
    needed=True,
    while_frozen=True,
)
