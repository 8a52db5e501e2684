"""What a stop does with a process that it was not begun for. A pure decision over a snapshot."""

from collections.abc import Container, Mapping
from enum import Enum, auto

from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.source import restarted


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
