"""§3: watch whether anything restarts the workload, name it, and stop it at its source if that is allowed.

See docs/adr/0009.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGKILL, SIGSTOP
from typing import Any, Final

from tasks.containment.containers.watch import ContainerReturns
from tasks.containment.cordon import IncidentCordon
from tasks.containment.freeze import halt
from tasks.containment.gpu import look_at_gpus
from tasks.containment.members import Membership, Snapshot
from tasks.containment.release.wrappers import Wrappers
from tasks.containment.starters import find_starters, may_end
from tasks.containment.supervisors import BY, may_stop
from tasks.containment.writers import find_changes_by_unknown
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End, Returned, Source, Stop, Watch
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import lives, send_signal
from tasks.host.process.membership import Member
from tasks.host.process.newcomer import KEPT, again_and_again
from tasks.host.process.process import process_line
from tasks.host.process.source import lineages, supervisor
from tasks.runtime.context import FirstTry, RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step

UNKNOWN_SECONDS: Final = 10.0
"""How long a run watches if an earlier one has heard somebody write whom nobody knows, and who may live and pause."""
_POLL_SECONDS: Final = 0.1
_GONE_SECONDS: Final = 10.0
_ROUNDS: Final = 8
_LOGGED: Final = ("at", "role", "why", "command", "source", "denied")


@step("watch", "watch: does anything bring it back?", section="§3", ja="再出現の監視", retries=1)
def watch(context: RunContext, stopped: Stop | None = None) -> Watch:
    """Watch until nothing has come back for the workload's `watch_seconds`, counted from the stop (runbook §3).

    `stopped` may be an earlier run's; without one the seconds count from now.

    What comes back is ended once. A source that brings it back again is a supervisor: it is stopped if the block allows
    that; else the new process stays frozen, which keeps most sources from starting another, and a person is told.
    Further ones are ended, as the guard does. A second try goes on with what the first has seen.
    """
    watching: Watching = context.first_try.watch or Watching(context)
    context.first_try.watch = watching
    watching.stop_starters()
    watching.go_on(stopped.at if stopped else datetime.now(UTC))
    if find_changes_by_unknown(context).earlier:
        watching.go_on(datetime.now(UTC), UNKNOWN_SECONDS)
    watching.wrappers.give_back()
    _log_caught(watching.cordon.newcomers(), context.state, context.log)
    result = watching.result()
    context.first_try = FirstTry()
    return result


class Watching:
    """A watch in progress: what has come back, and from which source."""

    def __init__(self, context: RunContext) -> None:
        """Begin with the sources of the processes that were stopped."""
        self.context, self.host, self.membership = context, context.adapters.host, Membership(context)
        self.cordon = IncidentCordon(context)
        self.wrappers = Wrappers(self.host, context.state, self.cordon)
        self.earlier = {source for process in load_frozen(context.state).values() for source in process.lineage}
        returned = context.state.returned.read()
        self.returns = Counter({each.source for each in returned})
        self.found: dict[Identity, Returned] = {}
        for each in returned:  # a run that died was about to kill one that is gone now: it was frozen
            gone = each.end is End.SURVIVED and not lives(self.host, each.identity)
            self.found[each.identity] = replace(each, end=End.KILLED) if gone else each
        self.standing: dict[Source, None] = {}
        self.stopped: dict[Source, None] = {}
        self.containers = ContainerReturns(context)

    def go_on(self, since: datetime, at_least: float = 0.0) -> None:
        """Look repeatedly. Each return restarts the watch, a limited number of times."""
        seconds = max(at_least, self.context.workload.watch_seconds)
        passed = (datetime.now(UTC) - since).total_seconds()
        deadline = time.monotonic() + seconds - max(0.0, passed)
        rounds = 0
        try:
            while True:
                over = time.monotonic() >= deadline
                if self.look() and rounds < _ROUNDS:
                    rounds, deadline, over = rounds + 1, time.monotonic() + seconds, False
                if over:
                    break
                self.context.cancelled.check()
                time.sleep(_POLL_SECONDS)
        finally:
            self._keep()

    def stop_starters(self) -> None:
        """End what waits to start it, if the block allows that and no other work depends on it."""
        if self.context.workload.stop_supervisors:
            snapshot = self.host.snapshot()
            for each in find_starters(self.membership, self.cordon.newcomers(), snapshot).living:
                if may_end(self.membership, snapshot, each):
                    self._stop(each.source)

    def look(self) -> bool:
        """Freeze each process that is there, and handle its source; True if one is new."""
        snapshot = self.host.snapshot()
        settled = {key for key, each in self.found.items() if each.end is End.HELD}
        new = {key: member for key, member in self.membership.members(snapshot).items() if key not in settled}
        self.wrappers.note(snapshot, [key.pid for key in new])
        for identity, member in new.items():
            halt(self.host, snapshot[identity.pid], member)
        for source, family in self._by_source(snapshot, new).items():
            self._deal_with(snapshot, source, family)
        return self.containers.look() or bool(new)

    def _by_source(
        self, snapshot: Snapshot, new: Mapping[Identity, Member]
    ) -> dict[Source | None, dict[Identity, Member]]:
        """Group the new processes by source; None if no known source started them."""
        pids = {each.pid for each in new}
        families: dict[Source | None, dict[Identity, Member]] = {}
        lines = lineages(snapshot, pids)
        sources = set[Source]()
        for identity, member in new.items():
            own = [source for source in lines[identity.pid] if not source.identity or source.identity.pid not in pids]
            sources.update(own)
            families.setdefault(supervisor(own, self.earlier), {})[identity] = member
        self.earlier |= sources
        return families

    def _deal_with(self, snapshot: Snapshot, source: Source | None, family: Mapping[Identity, Member]) -> None:
        name = str(source or "nothing that is known of")
        lines = {} if source else lineages(snapshot, [each.pid for each in family])
        for identity, member in family.items():
            line = process_line(snapshot[identity.pid])
            own = BY.join(map(str, lines.get(identity.pid, ()))) or name
            self.found[identity] = Returned(identity, member.role, line, own, End.SURVIVED)
        self._keep()  # before anything is killed
        self.returns[name] += 1
        workload = self.context.workload
        named = source and (workload.stop_supervisors or source.name in workload.units)
        allowed = source and named and may_stop(self.membership, snapshot, source, family)
        if source and (not self._stop(source) if allowed else self.returns[name] > 1):
            self.standing[source] = None
            end = dict.fromkeys(family, End.HELD) if self.returns[name] <= KEPT else self._kill(family)
        else:
            end = self._kill(family)
        for identity in family:
            each = self.found[identity] = replace(self.found[identity], end=end[identity])
            details = {"role": each.role, "command": each.command, "source": name, "end": each.end}
            self.context.log.write("came back", str(identity.pid), **details)

    def _keep(self) -> None:
        self.context.state.returned.write(list(self.found.values()))

    def _stop(self, source: Source) -> bool:
        """Freeze the source, so that it starts nothing more, then end it. Return whether that was done."""
        failed = ""
        if source.identity:
            for number in (SIGSTOP, SIGKILL):
                with suppress(ProcessLookupError):
                    self.host.signal(source.identity, number)
        else:
            failed = self.host.systemd.tell("stop", "--", source.name)
        self.context.log.write("supervisor stopped", str(source), failed=failed)
        if not failed:
            self.stopped[source] = None
        return not failed

    def _kill(self, family: Iterable[Identity]) -> dict[Identity, End]:
        """Kill processes. They were frozen at birth, so they have nothing to save."""
        ended = list(family)
        denied = {identity for identity in ended if send_signal(self.host, identity, SIGKILL)}
        remaining = self.host.wait_gone({*ended} - denied, _GONE_SECONDS) | self.host.wait_gone(denied, 0)
        return {identity: End.SURVIVED if identity in remaining else End.KILLED for identity in ended}

    def result(self) -> Watch:
        """Return what this incident has found so far."""
        return Watch(
            at=datetime.now(UTC),
            returned=tuple(self.found.values()),
            standing=(*(str(source) for source in self.standing), *self.containers.standing),
            stopped=tuple(str(source) for source in self.stopped),
            containers=tuple(self.containers.found.values()),
            gpu=look_at_gpus(self.host, self.context.state, self.context.log, "watch"),
            again=tuple(again_and_again(self.host.snapshot(), self.cordon.newcomers())),
        )


def _log_caught(entries: Sequence[Mapping[str, Any]], state: IncidentState, log: CustodyLog) -> None:
    """Log each newcomer that the guard caught or killed, once. A process that a run froze as well is no newcomer."""
    frozen_by_us: set[tuple[Any, ...]] = {(each.pid, each.start) for each in load_frozen(state)}
    frozen_by_us |= {(each.id, each.started_at) for each in frozen_containers(state)}
    for entry in entries[state.caught_logged.read() :]:
        key = tuple(entry.get("identity", entry.get("container", {})).values())
        name, fields = str(key[0]) if key else "?", {name: entry.get(name, "") for name in _LOGGED}
        if seen := Identity.of(entry.get("seen")):
            log.write("seen under the cordon", str(seen.pid), **fields)
        elif entry.get("killed"):
            log.write("killed by guard", name, **fields)
        elif key not in frozen_by_us:
            log.write("caught", name, **fields)
    state.caught_logged.write(len(entries))
