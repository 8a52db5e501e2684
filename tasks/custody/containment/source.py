"""Decide what started a process, and what keeps bringing it back (runbook §3)."""

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from tasks.custody.containment.membership import EVERYBODYS, multiplexes, program, quotes, runs_prefect
from tasks.custody.containment.process import Identity, Process, ancestry, descendants, handed_down
from tasks.custody.containment.service import unit_of
from tasks.custody.evidence.redact import redact_command
from tasks.custody.visible import visible

_SHOWN: Final = 100
_ENDS: Final = 16


@dataclass(frozen=True)
class Source:
    """What a process was started by: a process that lives on, or a systemd unit (then without an identity)."""

    name: str
    identity: Identity | None = None

    def __str__(self) -> str:
        """Name it so that a person finds it."""
        if self == BETWEEN:
            return self.name
        return f"process {self.identity.pid} ({self.name})" if self.identity else visible(f"systemd unit {self.name}")


BETWEEN: Final = Source("generations that are not listed")
"""In a long lineage, what stands for those between the nearest and the outermost sixteen."""


def lineage(snapshot: Mapping[int, Process], pid: int) -> tuple[Source, ...]:
    """Who started the process, who started that one and so on, nearest first, pid 1 left out; its unit last."""
    return lineages(snapshot, [pid])[pid]


def lineages(snapshot: Mapping[int, Process], pids: Collection[int]) -> dict[int, tuple[Source, ...]]:
    """Lineages of many processes, in time that grows with their number. Long ones are cut in the middle."""
    nobody: tuple[Source, ...] = ()
    lines = handed_down(snapshot, pids, nobody, partial(_line, snapshot))
    units = {pid: unit_of(snapshot[pid].cgroup) for pid in pids}
    return {pid: (*lines[pid], Source(unit)) if unit else lines[pid] for pid, unit in units.items()}


def _line(snapshot: Mapping[int, Process], process: Process, above: tuple[Source, ...]) -> tuple[Source, ...]:
    parent = snapshot.get(process.parent)
    if parent is None or parent.pid <= 1:
        return ()
    line = (Source(_shown(parent.command), parent.identity), *above)
    return line if len(line) <= 2 * _ENDS + 1 else (*line[:_ENDS], BETWEEN, *line[-_ENDS:])


@lru_cache(maxsize=4096)
def _shown(command: tuple[str, ...]) -> str:
    """Told for each descendant: in a chain of three hundred the freeze took eleven seconds, and did not settle."""
    return visible(" ".join(redact_command(command))[:_SHOWN])


def supervisor(line: Iterable[Source], earlier: Collection[Source]) -> Source | None:
    """The nearest that started this process and an earlier one of the workload too: what brings it back."""
    return next((source for source in line if source in earlier and source != BETWEEN), None)


def restarted(snapshot: Mapping[int, Process], pid: int, kin: Container[int]) -> bool:
    """True if something that lives on has started the process: a parent that is none of its kin, or systemd for a unit.

    A child of the workload whose parent has died was adopted, by pid 1 or by a user's systemd, and not restarted.
    """
    parent = snapshot.get(snapshot[pid].parent)
    if parent is None or parent.pid in kin:
        return False
    if parent.pid == 1 or program(parent) == "systemd":
        return bool(unit_of(snapshot[pid].cgroup))
    return True


def keeps_only(snapshot: Mapping[int, Process], pid: int, family: Collection[int]) -> bool:
    """True if all that lives below a process is of this family, or leads to it. A supervisord keeps other work too."""
    below = descendants(snapshot, [pid]) - ancestry(snapshot, family)
    return not any(snapshot[one].alive for one in below)


def may_be_ended(process: Process) -> bool:
    """Ending what brings the workload back must not end a person's login: no terminal multiplexer, no bare shell.

    Nor what starts everybody's programs, nor a program of Prefect's.
    """
    if multiplexes(process) or runs_prefect(process) or program(process) in EVERYBODYS:
        return False
    return not quotes(process) or (len(process.command) > 1 and not process.command[0].startswith("-"))
