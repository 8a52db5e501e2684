"""Which data the training could read, as far as that can be known: by name, size, time and digest.

Taken while the processes stand still, because their command lines and environments say where to look. Digests have a
few seconds only, for the stop waits; a file without one says so. What belongs to another user is not looked into: an
environment could name any place of the host.
"""

import os
import pwd
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tasks.collectors.collector import Collector, Made, Target
from tasks.collectors.procfs import still
from tasks.collectors.reading import digest_in_time
from tasks.custody.keys import quote
from tasks.custody.manifest import canonical
from tasks.custody.redact import redact

_HASH_SECONDS: Final = 2.0
_SHARE: Final = 0.4
_MOST: Final = 5000
_HOME: Final = "scikit_learn_data"  # sklearn.datasets.get_data_home
_OPTION: Final = re.compile(
    r"--?(?P<name>[\w-]*(?:data|input|train|test|file|path|csv|table)[\w-]*)(?:=(?P<value>.*))?"
)
_UNKNOWN: Final = "not known"


def arguments(command: Sequence[str]) -> list[str]:
    """The options of a command line that speak of data, each with its value."""
    found = []
    for word, after in zip(command, [*command[1:], "-"], strict=True):
        if option := _OPTION.fullmatch(word):
            value = option["value"] if option["value"] is not None else ("" if after.startswith("-") else after)
            found.append(redact(f"--{option['name']}={value}"))
    return found


def _homes(target: Target) -> tuple[dict[Path, str], list[dict[str, Any]]]:
    """Each data home with who named it, and the data arguments of each process."""
    homes: dict[Path, str] = {}
    told = []
    for pid, start in target.frozen:
        if not still(pid, start):
            continue
        try:
            process = psutil.Process(pid)
            command, environment = process.cmdline(), process.environ()
        except (psutil.Error, OSError):
            told.append({"pid": pid, "arguments": _UNKNOWN})
            continue
        if asked := arguments(command):
            told.append({"pid": pid, "arguments": asked})
        if named := environment.get("SCIKIT_LEARN_DATA"):
            homes.setdefault(Path(named), f"SCIKIT_LEARN_DATA of {pid}")
        elif home := environment.get("HOME"):
            homes.setdefault(Path(home) / _HOME, f"HOME of {pid}")
    if not homes:
        homes = {Path(_home_of(target.owner)) / _HOME: "the owner's home; no process said another"}
    return homes, told


def _home_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        return "/nonexistent"


@dataclass
class Looking:
    """One look at folders of data: how long digests may take, and how many files are told of."""

    users: frozenset[int]
    until: float
    left: int = _MOST
    notes: list[str] = field(default_factory=list)

    def folder(self, place: Path) -> Any:
        """Its files, or why they are not known. No link is followed below it."""
        try:
            top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            return f"{_UNKNOWN}: {getattr(error, 'strerror', None) or error}"
        try:
            if os.fstat(top).st_uid not in self.users:
                return f"{_UNKNOWN}: it belongs to another user than the workload"
            return list(self._files(top))
        finally:
            os.close(top)

    def _files(self, top: int) -> Iterator[dict[str, Any]]:
        for folder, inner, names, descriptor in os.fwalk(b".", dir_fd=top, follow_symlinks=False):
            inner.sort()
            for name in sorted(names):
                if not self.left:
                    inner.clear()
                    yield {"path": _UNKNOWN, "reason": f"more than {_MOST} files"}
                    return
                self.left -= 1
                yield {"path": quote(os.path.normpath(os.path.join(folder, name))), **self._file(name, descriptor)}  # noqa: PTH118

    def _file(self, name: bytes, folder: int) -> dict[str, Any]:
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(about.st_mode):
                return {"kind": "a link, or no regular file"}
            return {"bytes": about.st_size, "mtime_ns": about.st_mtime_ns, "sha256": self._digest(name, folder)}
        except OSError as error:
            return {"reason": error.strerror or str(error)}

    def _digest(self, name: bytes, folder: int) -> str:
        if time.monotonic() > self.until:
            return f"{_UNKNOWN}: the time was used up"
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_uid not in self.users:
                return f"{_UNKNOWN}: it belongs to another user than the workload"
            return digest_in_time(descriptor, self.until) or f"{_UNKNOWN}: the time was used up"
        finally:
            os.close(descriptor)


def make(target: Target) -> bytes:
    """Data arguments by process, then each folder that the workload's data may lie in."""
    homes, told = _homes(target)
    running = [psutil.Process(pid).uids().real for pid, start in target.frozen if still(pid, start)]
    look = Looking(frozenset({target.owner, *running}), time.monotonic() + min(_HASH_SECONDS, target.seconds * _SHARE))
    folders = [(Path(target.root) / "data", "data/ of the root"), *homes.items()]
    looked = [{"folder": str(place), "named_by": by, "files": look.folder(place)} for place, by in folders]
    found = any(isinstance(each["files"], list) and each["files"] for each in looked)
    return canonical(
        {
            "arguments": told or _UNKNOWN,
            "folders": looked,
            "identity": "by the digests below" if found else f"{_UNKNOWN}: no file of data was found",
        }
    )


COLLECTOR = Collector(
    name="datasets",
    answers="Which data could the training read?",
    order=22,
    sources=(Made(make, "datasets.json"),),
    deadline=6.0,
    while_frozen=True,
)
