"""Classify processes that appear after the freeze, for the guard and the stop. Pure decisions on a snapshot."""

from collections.abc import Callable, Collection, Container, Mapping
from enum import Enum, auto

from tasks.custody.containment.process import Identity, Process, copies, pids_of
from tasks.custody.containment.source import restarted


def in_hand(
    snapshot: Mapping[int, Process], frozen: Collection[Identity], *, run_lives: Callable[[], bool]
) -> set[int]:
    """Return the pids that the run has to thaw and end: the processes it froze, and copies that these are forking.

    If the run has died, frozen processes are left to the next run; running ones are left to the guard.
    """
    held = pids_of(snapshot, frozen)
    running = {pid for pid in held if not snapshot[pid].stopped} | copies(snapshot, held)
    return held - running if running and not run_lives() else held | running


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
    return Newcomer.TAKEN_IN if known or not restarted(snapshot, identity.pid, kin) else Newcomer.TOLD
