"""§4: name what ended before a collector had looked at it, which no later run can make good.

See docs/adr/0002.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tasks.acquisition.collector import Collector
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import step_of
from tasks.host.host import Host, lives
from tasks.incident.layout import earlier_boots
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.state import IncidentState

_FREEZES: Final = frozenset({"frozen", "container paused"})
EARLIER_LOOK: Final = "an earlier run's look"
"""Source of a loss that no repetition mends."""


def lost_look(what: Collector, state: IncidentState, log: CustodyLog, host: Host) -> tuple[list[Loss], bool]:
    """Return what the incident froze before this run and ended unseen, and whether anything is left to look at.

    Of what this run has frozen itself nothing counts as lost.
    """
    if not what.while_frozen or not log.began:
        return [], True
    entries = log.entries()
    standing = frozen_in(entries[log.began :])
    standing |= {str(identity.pid) for identity in load_frozen(state) if lives(host, identity)}
    if what.of_containers:  # takes what a stopped container still has, and names what it has not
        standing |= {identity.id for identity in frozen_containers(state)}
    earlier, here = _find_frozen(state, what)
    if not (lost := (earlier | (here - standing)) - looked_at(entries, what.name)):
        return [], True
    now = "only what stands frozen now can be looked at" if standing else "nothing of it stands frozen any more"
    reason = f"{len(lost)} of {len(earlier | here)} that were frozen ended before it was taken, and {now}"
    return [Loss(EARLIER_LOOK, Outcome.FAILED, reason)], bool(standing)


def _find_frozen(state: IncidentState, what: Collector) -> tuple[frozenset[str], frozenset[str]]:
    """Return the pids frozen in earlier boots (all ended; the pids may be reused), and what may still stand.

    That are containers of every boot, and pids of this one; for what looks at containers those alone. What had ended
    before its signal was never frozen.
    """
    containers = (each for some in state.frozen_containers.of_boots() for each in some)
    paused = frozenset(each.identity.id for each in containers if each.paused_at or each.denied)
    if what.of_containers:
        return frozenset(), paused
    earlier = (each for boot in earlier_boots(state.home) for each in state.frozen.of_boot(boot))
    return _pids(earlier), paused | _pids(state.frozen.read())


def _pids(processes: Iterable[Frozen]) -> frozenset[str]:
    return frozenset(str(each.identity.pid) for each in processes if each.frozen_at or each.denied)


def frozen_in(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the pids and container ids that these entries say were frozen."""
    return frozenset(str(entry["object"]) for entry in entries if entry["action"] in _FREEZES)


def looked_at(entries: Iterable[Mapping[str, Any]], collector: str) -> frozenset[str]:
    """Return the pids and container ids that were frozen before a complete attempt of this collector."""
    frozen, result = set[str](), frozenset[str]()
    for entry in entries:
        if entry["action"] in _FREEZES:
            frozen.add(str(entry["object"]))
        elif entry["action"] == "step done" and step_of(entry) == ("collect", collector):
            result = frozenset(frozen)
    return result
