"""§1, §2 undone above the workload: continue the wrappers that stopped themselves because their child was stopped."""

from collections.abc import Iterable

from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import Snapshot
from tasks.custody.containment.identity import Identity
from tasks.host.host import Host
from tasks.host.process.wrappers import running_above
from tasks.host.wrappers import continue_above
from tasks.prestart.journal import read_early
from tasks.runtime.state import IncidentState


class Wrappers:
    """What runs above the frozen processes of an incident, and may stop itself because its child is stopped."""

    def __init__(self, host: Host, state: IncidentState, cordon: IncidentCordon) -> None:
        """Read what an early freeze has found, which no run changes before it takes that over."""
        self._host, self._state, self._cordon = host, state, cordon
        self._ran_early = read_early(cordon.files.early).above

    def note(self, snapshot: Snapshot, pids: Iterable[int]) -> None:
        """Write down what runs above processes that are stopped now, with what an early freeze has found."""
        found = running_above(snapshot, pids) | self._ran_early
        if not found <= (before := set(self._state.above.read())):
            self._state.above.write(sorted(found | before))

    def give_back(self, thawed: Iterable[Identity] = (), *, all_goes_on: bool = False) -> None:
        """Continue what ran above the frozen and stands now, and forget it; what waits above others stays noted.

        A wrapper that was `thawed` may have stopped itself again, over a child that was thawed after it. `all_goes_on`
        after a thaw: what stands below then had been stopped by somebody else.
        """
        newcomers = self._cordon.held_newcomers()
        named = {identity for row in newcomers for each in row.get("above", ()) if (identity := Identity.of(each))}
        ran = {*thawed, *self._state.above.read(), *named, *self._ran_early}
        held = {identity for row in newcomers if (identity := Identity.of(row))}
        held |= {each.identity for each in self._state.frozen.read()}
        held |= {each.identity for each in self._state.returned.read()}
        self._state.above.write(sorted(continue_above(self._host, ran, () if all_goes_on else held)))
