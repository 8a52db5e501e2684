"""§2 undone for bystanders: let go of what the incident froze before the block's `bystanders` named it."""

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tasks.containment.cordon import held_newcomers
from tasks.containment.members import exceptions_of, excused_pids, find_members, inside
from tasks.containment.suspects import take_roster
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.thaw import ran_before
from tasks.host.host import thaw_process
from tasks.host.process.process import Process, descendants, process_line

if TYPE_CHECKING:
    from tasks.containment.control_groups import Groups
    from tasks.runtime.context import RunContext


class LetGo(NamedTuple):
    """Which processes were let go, and why others stay frozen although `bystanders` names them."""

    gone: frozenset[Identity]
    warnings: tuple[str, ...] = ()


def let_go(context: "RunContext", groups: "Groups", early: Iterable[Identity]) -> LetGo:
    """Thaw what is held and `bystanders` excuses now, and take it out of the journals, so that no stop ends it.

    An earlier run, the guard or an `early` freeze may have stopped it. Descendants that nothing else ties to the
    workload go with it. What somebody else had stopped before stays stopped.
    """
    if not context.workload.bystanders:
        return LetGo(frozenset())
    newcomers = (
        (identity, bool(row.get("stood"))) for row in held_newcomers(context) if (identity := Identity.of(row))
    )
    frozen, stopping = context.state.frozen.read(), context.state.stopping.read()
    ran, stood = ran_before(
        [*((each.identity, each.stood) for each in frozen), *newcomers, *((identity, False) for identity in early)]
    )
    gone, warnings = set[Identity](), list[str]()
    for process in _find_excused(context, groups, ran | stood):
        identity, command = process.identity, process_line(process)
        if why_not := groups.take_out(process) or (
            identity not in stood and thaw_process(context.adapters.host, identity)
        ):
            warnings.append(f"process {identity.pid} ({command}) stays frozen, although bystanders names it: {why_not}")
            continue
        gone.add(identity)
        context.log.write("let go", str(identity.pid), start=identity.start, command=command, stood=identity in stood)
    if gone:
        context.state.frozen.write([each for each in frozen if each.identity not in gone])
        context.state.stopping.write([each for each in stopping if each.identity not in gone])
    return LetGo(frozenset(gone), tuple(warnings))


def _find_excused(context: "RunContext", groups: "Groups", held: Container[Identity]) -> Iterator[Process]:
    """Yield what is held only because the block did not excuse it then."""
    snapshot = context.adapters.host.snapshot()
    excused = excused_pids(context, snapshot)
    kin = {pid: snapshot[pid] for pid in excused | descendants(snapshot, excused)}
    roster = take_roster(context.adapters.host, context.workload, kin, exceptions_of(context, snapshot))
    life = {*find_members(context, snapshot, ()), *roster.alive}
    frozen_in_groups = inside(snapshot, groups.paths)
    for pid, process in kin.items():
        if (process.identity in held or pid in frozen_in_groups) and process.identity not in life and process.alive:
            yield process
