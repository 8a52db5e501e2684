"""§1, §2 undone above the workload: continue the wrappers that stopped themselves because their child was stopped."""

from collections.abc import Iterable

from tasks.containment.cordon import held_newcomers
from tasks.containment.members import Snapshot
from tasks.custody.containment.identity import Identity
from tasks.host.process.wrappers import running_above
from tasks.host.wrappers import continue_above
from tasks.prestart.journal import early_above
from tasks.runtime.context import RunContext


def note_above(context: RunContext, snapshot: Snapshot, pids: Iterable[int]) -> None:
    """Write down what runs above processes that are stopped now, with what an early freeze has found."""
    found = running_above(snapshot, pids) | early_above(context.cordon_files.early)
    if not found <= (before := set(context.state.above.read())):
        context.state.above.write(sorted(found | before))


def give_back(context: RunContext, thawed: Iterable[Identity] = (), *, all_goes_on: bool = False) -> None:
    """Continue what ran above the frozen and stands now, and forget it; what waits above one that stands stays noted.

    A wrapper that was `thawed` may have stopped itself again, over a child that was thawed after it. `all_goes_on`
    after a thaw: what stands below then had been stopped by somebody else.
    """
    newcomers = held_newcomers(context)
    named = {identity for row in newcomers for each in row.get("above", ()) if (identity := Identity.of(each))}
    ran = {*thawed, *context.state.above.read(), *named, *early_above(context.cordon_files.early)}
    held = {identity for row in newcomers if (identity := Identity.of(row))}
    held |= {each.identity for each in context.state.frozen.read()}
    held |= {each.identity for each in context.state.returned.read()}
    context.state.above.write(sorted(continue_above(context.adapters.host, ran, () if all_goes_on else held)))
