"""Classify processes that appear after the freeze, for the guard and the stop. Pure decisions on a snapshot.

See docs/adr/0008.
"""

import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source
from tasks.custody.visible import visible
from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.known_programs import CRONS, SHELLS, WRAPPERS, keeps_container, program
from tasks.host.process.process import Process, ancestry, copies, pids_of
from tasks.host.process.source import is_restarted, source_of


def in_hand(
    snapshot: Mapping[int, Process], frozen: Collection[Identity], *, run_lives: Callable[[], bool]
) -> set[int]:
    """Return the pids that the run has to thaw and end: the processes it froze, and copies that these are forking.

    If the run has died, frozen processes are left to the next run; running ones are left to the guard.
    """
    held = pids_of(snapshot, frozen)
    running = {pid for pid in held if not snapshot[pid].is_stopped} | copies(snapshot, held)
    return held - running if running and not run_lives() else held | running


_DEEPEST: Final = 1000
KEPT: Final = 3
"""Newcomers of one parent that stay frozen, to be looked at; further ones are ended."""


class Started(NamedTuple):
    """The topmost of the newcomers above a process, and what has started that: a living process, a unit, or None."""

    top: Process
    by: Source | None


def find_origin(snapshot: Mapping[int, Process], pid: int, newcomers: Container[int]) -> Started:
    """Decide what has started a newcomer.

    A wrapper, and the shell that it or cron runs a command by, live for one newcomer only: what started these counts.
    """
    top = snapshot[pid]
    for _ in range(_DEEPEST):
        above = snapshot.get(top.parent)
        if above is None or above.pid not in newcomers:
            break
        top = above
    if by := climb(snapshot, above):
        return Started(top, source_of(by))
    unit = unit_of(top.cgroup)
    return Started(top, Source(unit) if unit else None)


def climb(snapshot: Mapping[int, Process], process: Process | None) -> Process | None:
    """Return the process, or the first above it that does not only pass on what it starts; None for the system's."""
    for _ in range(_DEEPEST):
        further = snapshot.get(process.parent) if process else None
        if process is None or further is None or not _passes_on(process, further):
            break
        process = further
    return process if process and process.pid > 1 and program(process) != "systemd" else None


def _passes_on(process: Process, above: Process) -> bool:
    """Return whether a process only passes on what its parent starts."""
    if program(process) in CRONS:
        return program(above) in CRONS
    commanded = program(process) in SHELLS and process.command[1:2] == ("-c",)
    return program(process) in WRAPPERS or (commanded and program(above) in WRAPPERS | CRONS)


def is_written(number: int) -> bool:
    """Return whether the `number`th newcomer of a source gets a row: those kept, then each doubling of those ended.

    So the journal stays short, and its last row tells at least half of how many were ended.
    """
    ended = number - KEPT
    return ended <= 0 or ended & (ended - 1) == 0


def again_and_again(snapshot: Mapping[int, Process], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what still lives and starts newcomers again and again, by the guard's rows, and how a person ends it."""
    ended: dict[Source, int] = {}
    for row in rows:
        if isinstance(repeat := row.get("again"), dict):
            source = Source(str(repeat.get("name", "")), Identity.of(repeat))
            ended[source] = max(ended.get(source, 0), int(row.get("ended", 0)))
    return [
        f"{source} starts it again and again{f', at least {number} ended' * bool(number)}: {way} (繰り返し起動の元)"
        for source, number in ended.items()
        if (way := _way_to_end(snapshot, source))
    ]


def living_source(snapshot: Mapping[int, Process], ended: Mapping[int, Process], pid: int) -> str:
    """Return what has started a process of these that have ended, if that lives, and how a person ends it; else empty.

    The pid alone would lead nowhere: who writes by short-lived children has another one each time.
    """
    by = find_origin({**snapshot, **ended}, pid, ended).by
    way = _way_to_end(snapshot, by) if by else ""
    if by is None or not way:
        return ""
    process = snapshot.get(by.identity.pid) if by.identity else None
    where = f" of user {process.user} in {visible(process.cwd) or 'a folder that is not readable'}" if process else ""
    return f"started by {by}{where}, which lives 起動元は動作中: {way}"


def _way_to_end(snapshot: Mapping[int, Process], source: Source) -> str:
    """Return how a person ends a source; empty if it has ended."""
    if source.identity is None:
        lives = any(each.alive and unit_of(each.cgroup) == source.name for each in snapshot.values())
        return f"stop it with systemctl stop {source.name}" if lives else ""
    process = snapshot.get(source.identity.pid)
    if not process or process.identity != source.identity or not process.alive:
        return ""
    if keeps_container(process):
        inside = {each.container for each in snapshot.values() if each.parent == process.pid and each.container}
        return f"stop its container, as by docker stop {', '.join(sorted(id_[:12] for id_ in inside)) or '(docker ps)'}"
    if program(process) in CRONS:
        return "take its entry out, see crontab -l"
    if process.pid in ancestry(snapshot, [os.getpid()]):
        return "this command was typed below it: end it there"
    harder = f", or kill -HUP {process.pid} if a person types there" if program(process) in SHELLS else ""
    return f"end it with kill {process.pid}{harder}"


class Newcomer(Enum):
    """What is done with a newcomer: end it with the others, leave it frozen for the watch to report, or leave it."""

    TAKEN_IN = auto()
    TOLD = auto()
    LEFT_ALONE = auto()


def classify_newcomer(
    snapshot: Mapping[int, Process],
    identity: Identity,
    members: Container[Identity],
    kin: Mapping[int, Identity],
    protected_pids: Container[int],
) -> Newcomer:
    """Decide on a process started during the stop. `kin` maps pids to identities of descendants of stopped processes.

    A process that a supervisor restarted is left to the watch: killed here, it would come back. A process that somebody
    else started in the root, and that is no member, is left alone: a person may be copying files.
    """
    process, known = snapshot[identity.pid], kin.get(identity.pid) == identity
    if identity.pid in protected_pids or process.container or not process.alive:
        return Newcomer.LEFT_ALONE
    if not known and identity not in members:
        return Newcomer.LEFT_ALONE
    return Newcomer.TAKEN_IN if known or not is_restarted(snapshot, identity.pid, kin) else Newcomer.TOLD
