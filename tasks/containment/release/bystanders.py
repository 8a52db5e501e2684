"""§2 undone for bystanders: let go of what the incident froze before the block's `bystanders` named it."""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from tasks.containment.control_groups import Groups
from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import inside
from tasks.containment.suspects import take_roster
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.thaw import ran_before
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import thaw_process
from tasks.host.process.process import Process, descendants, process_line


class LetGo(NamedTuple):
    """Which processes were let go, and why others stay frozen although `bystanders` names them."""

    gone: frozenset[Identity]
    warnings: tuple[str, ...] = ()


def let_go(groups: Groups, cordon: IncidentCordon, log: CustodyLog, early: Iterable[Identity]) -> LetGo:
    """Thaw what is held and `bystanders` excuses now, and take it out of the journals, so that no stop ends it.

    An earlier run, the guard or an `early` freeze may have stopped it. Descendants that nothing else ties to the
    workload go with it. What somebody else had stopped before stays stopped.
    """
    host, state = groups.host, groups.membership.state
    if not cordon.workload.bystanders:
        return LetGo(frozenset())
    frozen, stopping = state.frozen.read(), state.stopping.read()
    seen = [*((each.identity, each.stood) for each in frozen), *((identity, False) for identity in early)]
    ran, stood = ran_before([*seen, *cordon.held_processes()])
    gone, warnings = set[Identity](), list[str]()
    for process in _find_excused(groups, ran | stood):
        identity, command = process.identity, process_line(process)
        if why_not := groups.take_out(process) or (identity not in stood and thaw_process(host, identity)):
            warnings.append(f"process {identity.pid} ({command}) stays frozen, although bystanders names it: {why_not}")
            continue
        gone.add(identity)
        log.write("let go", str(identity.pid), start=identity.start, command=command, stood=identity in stood)
    if gone:
        state.frozen.write([each for each in frozen if each.identity not in gone])
        state.stopping.write([each for each in stopping if each.identity not in gone])
    return LetGo(frozenset(gone), tuple(warnings))


def _find_excused(groups: Groups, held: Container[Identity]) -> Iterator[Process]:
    """Yield what is held only because the block did not excuse it then."""
    membership, snapshot = groups.membership, groups.host.snapshot()
    excused = membership.excused_pids(snapshot)
    kin = {pid: snapshot[pid] for pid in excused | descendants(snapshot, excused)}
    roster = take_roster(groups.host, membership.workload, kin, membership.exceptions(snapshot))
    life = {*membership.members(snapshot, ()), *roster.alive}
    frozen_in_groups = inside(snapshot, groups.paths)
    for pid, process in kin.items():
        if (process.identity in held or pid in frozen_in_groups) and process.identity not in life and process.alive:
            yield process
