"""Collect which data the training could read: name, size, time and digest.

Runs while the processes are frozen, because their command lines and environments name the folders. Digests have a few
seconds only, because the stop waits; a file without one says so.
"""

import os
import pwd
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tasks.acquisition.collector import Collector, FunctionOutput, Target
from tasks.acquisition.command import group_of
from tasks.acquisition.procfs import fields, still, text
from tasks.acquisition.reading import digest_in_time
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact_command
from tasks.custody.store.manifest import canonical

_HASH_SECONDS: Final = 2.0
_SHARE: Final = 0.4
_MOST: Final = 5000
_HOME: Final = "scikit_learn_data"  # sklearn.datasets.get_data_home
_OPTION: Final = re.compile(
    r"--?(?P<name>[\w-]*(?:data|input|train|test|file|path|csv|table)[\w-]*)(?:=(?P<value>.*))?"
)
_UNKNOWN: Final = "not known"


def arguments(command: Sequence[str], folder: str = "") -> list[str]:
    """Return the options of a command line that name data, each with its value. The process works in `folder`."""
    found = []
    for word, after in zip(command, [*command[1:], "-"], strict=False):
        if option := _OPTION.fullmatch(word):
            value = option["value"] if option["value"] is not None else ("" if after.startswith("-") else after)
            found += redact_command(("", f"--{option['name']}={value}"), folder)[1:]
    return found


@dataclass(frozen=True)
class DataFolder:
    """A folder to read, the process that named it, and the user with whose rights it is read."""

    place: Path
    by: str
    user: int
    group: int
    groups: tuple[int, ...] = ()


def _of_process(pid: int) -> tuple[list[str], DataFolder | None]:
    """Return its data arguments and its data home, as sklearn.datasets.get_data_home finds it."""
    process = psutil.Process(pid)
    status = fields(text(pid, "status"))
    rights = (process.uids().real, process.gids().real, tuple(map(int, status.get("Groups", "").split())))
    environment = process.environ()
    home = environment.get("HOME") or home_of(rights[0])
    named = environment.get("SCIKIT_LEARN_DATA") or f"~/{_HOME}"
    place = Path(home, named[2:]) if named.startswith("~/") else Path(process.cwd(), named)
    by = "SCIKIT_LEARN_DATA" if "SCIKIT_LEARN_DATA" in environment else "home"
    return arguments(process.cmdline(), process.cwd()), DataFolder(place, f"{by} of {pid}", *rights)


def _find_folders(target: Target) -> tuple[list[DataFolder], list[dict[str, Any]]]:
    """Return each data home once, and the data arguments of each process."""
    homes: dict[Path, DataFolder] = {}
    arguments = []
    for pid, start in target.frozen:
        if not still(pid, start):
            continue
        try:
            words, home = _of_process(pid)
        except (psutil.Error, OSError) as error:
            arguments.append({"pid": pid, "arguments": f"{_UNKNOWN}: {type(error).__name__}"})
            continue
        arguments += [{"pid": pid, "arguments": words}] if words else []
        if home:
            homes.setdefault(home.place, home)
    owner = (target.owner, group_of(target.owner))
    if not homes:
        by = "the owner's home, because no living process names another"
        homes[Path()] = DataFolder(Path(home_of(target.owner), _HOME), by, *owner)
    return [DataFolder(Path(target.root, "data"), "data/ of the root", *owner), *homes.values()], arguments


def home_of(user: int) -> str:
    """Return a user's home; a path that does not exist for a user without an entry."""
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        return "/nonexistent"


@contextmanager
def acting_as(folder: DataFolder) -> Iterator[None]:
    """Act, as root, with the rights of the workload: its environment could name any folder of the host."""
    if os.geteuid() or not folder.user:
        yield
        return
    before = os.getgroups()
    try:
        os.setgroups(folder.groups)
        os.setegid(folder.group)
        os.seteuid(folder.user)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@dataclass
class Looking:
    """One attempt at folders of data: the deadline for digests, and the number of files that are listed."""

    until: float
    remaining: int = _MOST

    def folder(self, folder: DataFolder) -> Any:
        """Return its files, or why they are not known. No link below it is followed."""
        with acting_as(folder):
            try:
                top = os.open(folder.place, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
            except (OSError, ValueError) as error:
                return f"{_UNKNOWN}: {getattr(error, 'strerror', None) or error}"
            try:
                return list(self._files(top))
            finally:
                os.close(top)

    def _files(self, top: int) -> Iterator[dict[str, Any]]:
        for folder, inner, names, descriptor in os.fwalk(b".", dir_fd=top, follow_symlinks=False):
            inner.sort()
            for name in sorted([*names, *(each for each in inner if _is_shut(each, descriptor))]):
                if not self.remaining:
                    inner.clear()
                    yield {"path": _UNKNOWN, "reason": f"more than {_MOST} files"}
                    return
                self.remaining -= 1
                yield {"path": quote(os.path.normpath(os.path.join(folder, name))), **self._file(name, descriptor)}  # noqa: PTH118

    def _file(self, name: bytes, folder: int) -> dict[str, Any]:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                _try_folder(name, folder)
            if not stat.S_ISREG(status.st_mode):
                is_link = stat.S_ISLNK(status.st_mode)
                kind = f"a link to {quote(os.readlink(name, dir_fd=folder))}" if is_link else "no regular file"
                return {"kind": kind}
            return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": self._digest(name, folder)}
        except OSError as error:
            return {"reason": error.strerror or str(error)}

    def _digest(self, name: bytes, folder: int) -> str:
        if time.monotonic() > self.until:
            return f"{_UNKNOWN}: the time was used up"
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return f"{_UNKNOWN}: it is no regular file any more"
            return digest_in_time(descriptor, self.until) or f"{_UNKNOWN}: the time was used up"
        finally:
            os.close(descriptor)


def _try_folder(name: bytes, folder: int) -> None:
    """Raise OSError if it is a link, or a folder that may not be opened."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    os.close(os.open(name, flags, dir_fd=folder))


def _is_shut(name: bytes, folder: int) -> bool:
    """Return whether os.fwalk does not look into it."""
    try:
        _try_folder(name, folder)
    except OSError:
        return True
    return False


def make(target: Target) -> bytes:
    """Return the data arguments by process, then each folder that may hold the workload's data."""
    folders, arguments = _find_folders(target)
    look = Looking(time.monotonic() + min(_HASH_SECONDS, target.seconds * _SHARE))
    looked = [{"folder": str(each.place), "named_by": each.by, "files": look.folder(each)} for each in folders]
    found = any("sha256" in file for each in looked if isinstance(each["files"], list) for file in each["files"])
    identity = "by the digests below" if found else f"{_UNKNOWN}: no file of data was found"
    return canonical({"arguments": arguments or _UNKNOWN, "folders": looked, "identity": identity})


COLLECTOR = Collector(
    name="datasets",
    answers="Which data could the training read?",
    order=22,
    sources=(FunctionOutput(make, "datasets.json"),),
    deadline=6.0,
    while_frozen=True,
)
