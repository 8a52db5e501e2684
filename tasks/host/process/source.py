"""Decide what started a process, and what keeps restarting it (runbook §3)."""

import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Final

from tasks.custody.containment.receipt import BETWEEN, Source
from tasks.custody.evidence.redact import redact_command
from tasks.custody.visible import visible
from tasks.host.cgroup.ownership import home_of, unit_of
from tasks.host.process.known_programs import (
    EVERYBODYS,
    SHELLS,
    interactive,
    is_one_of,
    keeps_container,
    program,
    quotes,
    runs_prefect,
)
from tasks.host.process.process import Process, ancestry, descendants, handed_down

_SHOWN: Final = 100
_ENDS: Final = 16
_TAKES_A_WORD: Final = frozenset({"--init-file", "--rcfile", "-o", "+o", "-O", "+O"})
"""Options of a shell before a word that is no script."""
_BUILDERS: Final = frozenset({"make", "gmake", "just", "ninja"})
"""Programs that run once what a person has asked for."""
SLEEPERS: Final = frozenset({"sleep", "usleep"})
"""Programs that start nothing: what one has started was started by the program that it was before."""


def lineage(snapshot: Mapping[int, Process], pid: int) -> tuple[Source, ...]:
    """Return the ancestors of a process, nearest first, without pid 1, followed by its systemd unit.

    Above an orphan is who leads its session: what a launcher has detached keeps that, unless it has its own.
    """
    return lineages(snapshot, [pid])[pid]


def lineages(snapshot: Mapping[int, Process], pids: Collection[int]) -> dict[int, tuple[Source, ...]]:
    """Return the lineages of many processes, in linear time. Long ones are cut in the middle."""
    nobody: tuple[Source, ...] = ()
    lines = handed_down(snapshot, pids, nobody, partial(_line, snapshot))
    units = {pid: unit_of(snapshot[pid].cgroup) for pid in pids}
    return {pid: (*lines[pid], Source(unit)) if unit else lines[pid] for pid, unit in units.items()}


def _line(snapshot: Mapping[int, Process], process: Process, above: tuple[Source, ...]) -> tuple[Source, ...]:
    parent = snapshot.get(process.parent)
    if parent is None or parent.pid <= 1:
        leader = _find_leader(snapshot, process)
        return (source_of(leader),) if leader else ()
    line = (source_of(parent), *above)
    return line if len(line) <= 2 * _ENDS + 1 else (*line[:_ENDS], BETWEEN, *line[-_ENDS:])


def _find_leader(snapshot: Mapping[int, Process], process: Process) -> Process | None:
    """Return who leads the session of a process, and is not that itself; None if that has ended."""
    leader = snapshot.get(process.session)
    is_older = leader and 1 < leader.pid != process.pid and leader.identity.start <= process.identity.start
    return leader if is_older else None


def find_birthplace(snapshot: Mapping[int, Process], process: Process) -> str:
    """Return the control group of a process that nobody who lives is seen to have started; of any other, empty.

    A systemd has adopted it, or started it.
    """
    parent = snapshot.get(process.parent)
    is_adopted = parent is None or parent.pid <= 1 or program(parent) == "systemd"
    return home_of(process.cgroup) if is_adopted and not _find_leader(snapshot, process) else ""


def source_of(process: Process) -> Source:
    """Return a process as a source."""
    return Source(_format_command(process.command, "" if process.container else process.cwd), process.identity)


@lru_cache(maxsize=4096)
def _format_command(command: tuple[str, ...], folder: str) -> str:
    """Return a command for display. Cached: uncached, the freeze of a chain of 300 processes took eleven seconds."""
    return visible(" ".join(redact_command(command, folder))[:_SHOWN])


def supervisor(line: Iterable[Source], earlier: Collection[Source]) -> Source | None:
    """Return the nearest source that also started an earlier process of the workload: the one that restarts it."""
    return next((source for source in line if source in earlier and source != BETWEEN), None)


def is_restarted(snapshot: Mapping[int, Process], pid: int, kin: Container[int]) -> bool:
    """Return whether a living process outside `kin`, or systemd for a unit, has started the process.

    A child of the workload that pid 1 or a user's systemd adopted is not restarted.
    """
    parent = snapshot.get(snapshot[pid].parent)
    if parent is None or parent.pid in kin:
        return False
    if parent.pid == 1 or program(parent) == "systemd":
        return bool(unit_of(snapshot[pid].cgroup))
    return True


def keeps_only(snapshot: Mapping[int, Process], pid: int, family: Collection[int]) -> bool:
    """Return whether all living descendants of a process belong to `family` or lead to it.

    A supervisord may keep other work too.
    """
    below = descendants(snapshot, [pid]) - ancestry(snapshot, family)
    return not any(snapshot[one].alive for one in below)


def may_be_ended(process: Process) -> bool:
    """Return whether a source may be stopped. Not a terminal multiplexer or bare shell, which may be a person's login.

    Nor a program that starts processes of every user, nor an engine's beside a container, nor a Prefect of root's or
    ours.
    """
    if keeps_container(process):
        return False
    if interactive(process) or (runs_prefect(process) and not process.foreign) or is_one_of(EVERYBODYS, process):
        return False
    return not quotes(process) or (len(process.command) > 1 and not process.command[0].startswith("-"))


def may_restart(snapshot: Mapping[int, Process], process: Process) -> bool:
    """Return whether a process may start again what it has started: a script, a supervisor.

    Not a person's shell, which was given no script, nor an editor, nor make and the shells of its recipes, nor what
    this run itself descends from: a person is told to end what may start more.
    """
    if process.pid in ancestry(snapshot, [os.getpid()]) or is_one_of(SLEEPERS, process):
        return False
    above = snapshot.get(process.parent) if program(process) in SHELLS else None
    names = {program(each) for each in (process, above) if each and not each.strange}
    if not may_be_ended(process) or not _BUILDERS.isdisjoint(names):
        return False
    if quotes(process):
        return program(process) in SHELLS and not is_bare(process.command)
    return True


def is_bare(command: Sequence[str]) -> bool:
    """Return whether a shell was given neither a script nor commands, as a person's is."""
    words = [word for before, word in pairwise(command) if before not in _TAKES_A_WORD]
    return all(word.startswith(("-", "+")) for word in words)
