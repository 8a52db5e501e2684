"""Describe a workload to those that look for its processes: block, file, parameters and marker all yield this."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.process import Process

_ENTRY: Final = re.compile(r"(exe|cwd|unit)=(.+)")


@dataclass(frozen=True)
class Matcher:
    """Recognises one part of the workload: its role, and a regular expression on the full command line.

    If `user` or `port` is given, the process must also be that user's, or listen on that port.
    """

    role: str
    pattern: str
    user: int | None = None
    port: int | None = None

    def fits(self, process: Process) -> bool:
        """Return whether command line, user and port match. Never sufficient alone: see `recognises`."""
        listens = self.port is None or self.port in process.ports or process.placeless
        return self.names(process) and self.user in {None, process.user} and listens

    def names(self, process: Process) -> bool:
        """Return whether the command line matches, without regard to user and port."""
        return _is_found(self.pattern, process.line)

    def recognises(self, process: Process) -> bool:
        """Return whether the process fits, and something of it lies below the workload's root."""
        return process.is_rooted and self.fits(process)


@dataclass(frozen=True)
class WorkloadDescription:
    """What tells the processes of a workload: root, patterns, services, who is excused, and its own interpreters.

    `root` is the resolved path; what lies below it is decided by device and inode, not by this text. `interpreters` are
    words by which the workload's own Python may be called, relative to the root. `bystanders` are regular expressions
    on the command line, or `exe=`, `cwd=` or `unit=` with the exact program, a folder, or a systemd service.
    """

    root: str
    matchers: tuple[Matcher, ...]
    units: tuple[str, ...] = ()
    bystanders: tuple[str, ...] = ()
    interpreters: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any], root: str, user: int | None) -> Self:
        """Return that of a block's fields, with its resolved root and the uid of the account that it names."""
        matchers = (
            Matcher("api", fields["api_pattern"], user, fields["api_port"]),
            Matcher("training", fields["training_pattern"], user),
            Matcher("worker", fields["worker_pattern"], user),
        )
        units, bystanders = tuple(fields["units"]), tuple(fields["bystanders"])
        return cls(root, matchers, units, bystanders, interpreters(fields["interpreter"]))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the description that `dataclasses.asdict` made this row of. Raises KeyError or TypeError if none."""
        lists = {name: tuple(row[name]) for name in ("units", "bystanders", "interpreters")}
        return cls(row["root"], tuple(Matcher(**each) for each in row["matchers"]), **lists)

    def excuses(self, process: Process) -> bool:
        """Return whether `bystanders` names a process. A member may choose such a line: see `Members.excused`."""
        return any(_names(entry, process) for entry in self.bystanders)

    def recognises(self, process: Process) -> bool:
        """Return whether a pattern recognises the process in the root."""
        return any(matcher.recognises(process) for matcher in self.matchers)

    def fits(self, process: Process) -> bool:
        """Return whether a pattern fits the process, wherever it is."""
        return bool(self.roles(process))

    def names(self, process: Process) -> bool:
        """Return whether a pattern matches its command line, without regard to user and port."""
        return any(matcher.names(process) for matcher in self.matchers)

    def roles(self, process: Process) -> set[str]:
        """Return the roles whose patterns fit the process, wherever it is."""
        return {matcher.role for matcher in self.matchers if matcher.fits(process)}

    def tells_apart(self, process: Process) -> bool:
        """Return whether its command line matches, and user or port say that it is another's."""
        return not self.fits(process) and self.names(process)


USUAL_INTERPRETERS: Final = ("venv/bin/python", ".venv/bin/python", "env/bin/python")
"""Where a repository keeps its environment, relative to its root; the first that exists is used."""


def interpreters(named: str) -> tuple[str, ...]:
    """Return the words by which the workload's own Python may be called: the block's, else the usual ones."""
    return (named,) if named else USUAL_INTERPRETERS


@lru_cache(maxsize=16384)
def _is_found(pattern: str, line: str) -> bool:
    """Return whether a pattern is found in a command line; kept, because a guard asks again and again."""
    return bool(re.search(pattern, line))


def _names(entry: str, process: Process) -> bool:
    if not (found := _ENTRY.fullmatch(entry)):
        return bool(re.search(entry, process.line))
    kind, value = found.groups()
    if kind == "unit":
        return unit_of(process.cgroup) == value
    return process.executable == value if kind == "exe" else is_below(process.cwd, PurePath(value))


def is_below(path: str, folder: PurePath) -> bool:
    """Return whether a path as the kernel names it is that of a folder, or lies below it; an empty one does not."""
    return bool(path) and f"{path}/".startswith(f"{folder}/".replace("//", "/"))


def lines_of(entries: Iterable[str]) -> tuple[str, ...]:
    """Return those entries of `bystanders` that are regular expressions on the command line."""
    return tuple(entry for entry in entries if not _ENTRY.fullmatch(entry))
