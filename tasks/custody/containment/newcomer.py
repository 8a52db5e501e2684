"""Who a newcomer is to the guard, and what a stop does with one. Pure decisions over a snapshot."""

from collections.abc import Callable, Collection, Container, Mapping
from enum import Enum, auto

from tasks.custody.containment.process import Identity, Process, copies, pids_of
from tasks.custody.containment.source import restarted


def in_hand(
    snapshot: Mapping[int, Process], frozen: Collection[Identity], *, run_lives: Callable[[], bool]
) -> set[int]:
    """Pids that are a run's to thaw and to end: whom it has frozen, and the copies that these are forking.

    If the run has died, who still stands is left to the next one, and who runs is in nobody's hand.
    """
    held = pids_of(snapshot, frozen)
    running = {pid for pid in held if not snapshot[pid].stopped} | copies(snapshot, held)
    return held - running if running and not run_lives() else held | running


class Newcomer(Enum):
    """What becomes of it: it is ended with the others, frozen for the watch to tell of, or not touched."""

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
    """Decide on a process that was started during the stop. `kin` is, by pid, what descends from the stopped.

    What a supervisor has started again is left to the watch: killed here, it would only come back. What somebody else
    has started in the root, and is no member, is not ours to end: a person may copy files.
    """
    process, known = snapshot[identity.pid], kin.get(identity.pid) == identity
    if identity.pid in protected_pids or process.container or not process.alive:
        return Newcomer.LEFT_ALONE
    if not known and identity not in members:
        return Newcomer.LEFT_ALONE
    return Newcomer.TAKEN_IN if known or not restarted(snapshot, identity.pid, kin) else Newcomer.TOLD
