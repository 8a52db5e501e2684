"""Decide which processes above the frozen stop because of it, as sudo, su, runuser and script do."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.host.process.known_programs import program
from tasks.host.process.process import Process, ancestry, pids_of

_TERMINALS: Final = frozenset({"script", "su", "runuser"})
"""Programs of util-linux that wait for one child, and may give it a terminal of its own."""


def running_above(snapshot: Mapping[int, Process], pids: Iterable[int]) -> set[Identity]:
    """Return the ancestors of these processes that run now: who stands later has not been stopped by a person before.

    A wrapper that sees its child stopped stops itself (util-linux, sudo), and only SIGCONT makes it go on.
    """
    below = set(pids)
    above = (snapshot[pid] for pid in ancestry(snapshot, below) - below if pid > 1)
    return {process.identity for process in above if process.alive and not process.stands}


def above_held(snapshot: Mapping[int, Process], ran: Iterable[Identity], held: Collection[Identity]) -> set[Identity]:
    """Return those of `ran` that are `held`, or above one that is and stands: continued, they would continue it."""
    waiting = ancestry(snapshot, (pid for pid in pids_of(snapshot, held) if snapshot[pid].stands))
    return {identity for identity in ran if identity.pid in waiting and snapshot[identity.pid].identity == identity}


def bereft(snapshot: Mapping[int, Process], ran: Iterable[Identity]) -> list[Identity]:
    """Return those of `ran` that give their child a terminal and have no living child.

    They miss its end if it was continued and ended while they stood, and in the background they stop over their own
    terminal: SIGTERM ends them, SIGCONT does not.
    """
    parents = {process.parent for process in snapshot.values() if process.alive}
    there = (snapshot[pid] for pid in pids_of(snapshot, set(ran)) - parents)
    return [each.identity for each in there if each.alive and program(each) in _TERMINALS]
