"""Hold the workload by control groups: its own ones in place, all other processes in a group of the incident."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from operator import methodcaller
from typing import Final

from tasks.containment.members import Membership, Snapshot, inside
from tasks.containment.suspects import suspects_at_a_glance, suspects_to_end
from tasks.custody.containment.identity import Held, Identity, Way
from tasks.host.cgroup.group import ControlGroup
from tasks.host.cgroup.ownership import keeper_of, name_of, path_of, places_of, split_unit, unit_of, within
from tasks.host.host import freeze_process, lives
from tasks.host.process.membership import Exceptions, Member, Members
from tasks.host.process.process import Process, descendants
from tasks.host.short_lived import NO_PID
from tasks.prestart.groups import freeze_in_place
from tasks.prestart.journal import read_early
from tasks.runtime.context import RunContext
from tasks.system.kernel_tables import read_table

logger = logging.getLogger(__name__)

_CATCH_SECONDS: Final = 5.0
_ASKS: Final = 3
_ASK_SECONDS: Final = 5.0
_QUICK_SECONDS: Final = 0.05
_LONGEST_QUICK_SECONDS: Final = 1.0


class Groups:
    """The control groups that hold an incident's workload. Each is in the journal before it is used.

    `refused` says why a process may not be moved, `unavailable` why the incident can have no group. `unthawed` are
    those of an early freeze that hold strangers and could not be thawed. `stopped` says when a signal of this run
    stopped each process. With `with_suspects`, processes that a fact ties to the workload are caught too.
    """

    def __init__(self, context: RunContext) -> None:
        """Load the groups that this run's early freeze and earlier runs of the incident hold."""
        self.host, self.membership, self._run = context.adapters.host, Membership(context), context.run
        self._find_suspects = partial(suspects_to_end, self.membership, context.run)
        self._name, self._journal = name_of(context.incident.id, context.directory.path), context.state.groups
        self.refused: dict[Identity, str] = {}
        self.unthawed = list[str]()
        self.stopped = context.first_try.stopped
        self.unavailable, self._patience = "", _ASK_SECONDS
        self.with_suspects = False
        self._last = self.host.arrivals(NO_PID)[0]
        self._set(self._journal.read())
        early = set(read_early(context.cordon_files.early).groups).difference(self.paths)
        if frozen := {path: group for path in early if (group := self.host.group(path)) and group.is_frozen}:
            snapshot = self.host.snapshot()
            found = {identity.pid for identity in self.membership.members(snapshot, ())}
            for path, group in frozen.items():
                if inside(snapshot, [path]) <= found:
                    self._keep([*self.rows, Held(path)])
                elif reason := group.thaw():  # the block finds a stranger in it now: signals hold all
                    self.unthawed.append(path)  # not kept: a stop would end the strangers with it
                    logger.warning("%s", reason)

    def _keep(self, rows: list[Held]) -> None:
        self._set(rows)
        self._journal.write(rows)

    def _set(self, rows: list[Held]) -> None:
        self.rows, self.paths = rows, [row.group for row in rows if not row.identity]
        self.own = next((path for path in self.paths if path.endswith(f"/{self._name}")), "")

    def way(self, process: Process) -> Way:
        """Return how a process is held."""
        path = path_of(process.cgroup)
        if within(path, self.own):
            return Way.INCIDENT
        return Way.IN_PLACE if any(within(path, top) for top in self.paths) else Way.SIGNALS

    def freeze(self) -> None:
        """Freeze the groups: stops all processes in them, and all that join."""
        self._each("freeze")

    def thaw(self) -> None:
        """Thaw the groups. Processes that got SIGSTOP stay stopped: the signal acts first."""
        self._each("thaw")

    def kill(self) -> None:
        """Kill all in the groups at once. If the kernel cannot, SIGKILL to each does it, because none forks there."""
        self._each("kill")

    def let_go(self) -> None:
        """Thaw the groups and remove the incident's own. Call when nothing of the workload is left."""
        if not self.rows:
            return
        self.thaw()
        group = self.host.group(self.own) if self.own else None
        if not group or not (reason := group.remove()):
            self._keep([])
        else:
            logger.warning("%s", reason)

    def take_out(self, process: Process) -> str:
        """Move a process from the incident's group back to where it came from, and give up a group in place around it.

        Other processes in such a group are held by their signals. Returns why it stays.
        """
        path = path_of(process.cgroup)
        if within(path, self.own):
            origins = {row.identity.pid: row.group for row in self.rows if row.identity}
            kin = (origins[pid] for pid in (process.pid, process.parent) if pid in origins)
            origin = self.host.group(next(kin, next(iter(origins.values()), "")))
            return origin.make() or origin.add(process.pid) if origin else "where it came from is not known"
        tops = {top for top in self.paths if within(path, top)}
        reasons = [reason for group in map(self.host.group, tops) if group and (reason := group.thaw())]
        if tops and not reasons:
            self._keep([row for row in self.rows if row.identity or row.group not in tops])
        return "; ".join(reasons)

    def hold_in_place(self, snapshot: Snapshot) -> bool:
        """Freeze the groups that contain only members; True if there were any."""
        before, known = self.rows, self.paths
        find = partial(self.membership.members, groups=known)

        def note(paths: list[str]) -> None:
            self._keep([*before, *map(Held, paths)])

        return bool(freeze_in_place(self.host, snapshot, find, note, known))

    def find(self, snapshot: Snapshot) -> dict[Identity, Member]:
        """Return members and, with `with_suspects`, suspects."""
        found = self.membership.members(snapshot)
        return found | (self._find_suspects(snapshot, found) if self.with_suspects else {})

    def churns(self) -> bool:
        """Return whether members come and go between two looks at the host. Without a new pid nobody can have come."""
        last, self._last = self._last, self.host.arrivals(NO_PID)[0]
        if self.unavailable or last == self._last:
            return False
        snapshot = self.host.snapshot()
        for new in self._newcomers(snapshot):
            if found := {process.pid: process for process in new}:
                self.hold_in_place(snapshot | found)
                return True
        return False

    def catch(self) -> None:
        """Move each running member into the incident's group, repeatedly until none is outside; then freeze the group.

        A round is one look at the whole host and many at its newest processes, because a look at the whole host is too
        slow for processes that live for a millisecond.
        """
        deadline, outside = time.monotonic() + _CATCH_SECONDS, True
        while outside and not self.unavailable and time.monotonic() < deadline:
            snapshot = self.host.snapshot()
            found, newcomers = self.find(snapshot), self._newcomers(snapshot)
            outside = self.move(each for identity in found if not (each := snapshot[identity.pid]).is_stopped)
            for new in newcomers:
                # a move takes longer than some of them live, above all one that systemd is asked for
                for process in new:
                    if freeze_process(self.host, process) == "":
                        self.stopped[process.identity] = datetime.now(UTC)
                outside |= self.move(new, hurry=True)
        self.freeze()

    def move(self, processes: Iterable[Process], *, hurry: bool = False) -> bool:
        """Move processes that no group holds into the incident's group; False if there is nothing that may be moved.

        Writes down their old groups first. With `hurry` only once a group, because each write takes time.
        """
        outside = [each for each in processes if self._is_outside(each)]
        group = self._open() if outside else None
        if not group:
            return False
        known = {row.group if hurry else row.identity for row in self.rows if row.identity}
        rows = [Held(path_of(each.cgroup), each.identity) for each in outside]
        if new := [row for row in rows if (row.group if hurry else row.identity) not in known]:
            self._keep([*self.rows, *new])
        living = [each for each in outside if lives(self.host, each.identity)]
        refused = {each: reason for each in living if (reason := group.add(each.pid))}
        self.refused |= {each.identity: reason for each, reason in refused.items()}
        self._ask_systemd([each.identity for each in refused if each.user == os.geteuid()])
        return True

    def _ask_systemd(self, refused: list[Identity]) -> None:
        """Have systemd move processes of our own user. It moves none if one of them has ended."""
        unit, below = split_unit(self.own)
        for _ in range(_ASKS if unit and self._patience > 0 else 0):
            refused, began = [identity for identity in refused if lives(self.host, identity)], time.monotonic()
            failed = self.host.systemd.attach(unit, below, [identity.pid for identity in refused]) if refused else ""
            self.refused |= dict.fromkeys(refused, failed)
            if not failed:
                break
            self._patience -= time.monotonic() - began
        self.refused = {identity: reason for identity, reason in self.refused.items() if reason}

    def _is_outside(self, process: Process) -> bool:
        path = path_of(process.cgroup)
        if not process.alive or process.identity in self.refused or self.way(process) is not Way.SIGNALS:
            return False
        if unit_of(process.cgroup) in self.membership.workload.units:
            return False  # systemd holds and ends it
        if reason := keeper_of(path) if path else "its control group is not known":
            self.refused[process.identity] = reason
        return not reason

    def _open(self) -> ControlGroup | None:
        """Create the incident's group, at the top level or else below our own group; None if neither is writable."""
        ours, reasons = path_of(read_table("/proc/self/cgroup")), dict[str, None]()
        for path in [self.own] if self.own else places_of(self._name, ours, os.geteuid()):
            group = self.host.group(path)
            reason = group.obstacle if group else "no control groups of version 2 that can be written to"
            if group and not reason:
                if path != self.own:
                    self._keep([Held(path), *self.rows])
                if not (reason := group.make()):
                    return group
            reasons[reason] = None
        self.unavailable = "; ".join(reasons)
        return None

    def _newcomers(self, snapshot: Snapshot) -> Iterator[list[Process]]:
        """Yield members among the newest processes again and again, for a moment after the last that there was."""
        newest = self._newest(snapshot)
        began = last = time.monotonic()
        while (now := time.monotonic()) < min(last + _QUICK_SECONDS, began + _LONGEST_QUICK_SECONDS):
            new = newest()
            last = now if new else last
            yield new

    def _newest(self, snapshot: Snapshot) -> Callable[[], list[Process]]:
        """Return a function that finds members among processes new since its last call, the latest first.

        It takes less time than such a process lives, however many members there are.
        """
        last, own = self.host.arrivals(NO_PID)[0], self.membership.own_pids(snapshot)
        description, spared = self.membership.description, self.membership.protected_pids(snapshot)
        kept = {pid: snapshot[pid] for pid in spared if pid in snapshot}
        kin = {identity.pid for identity in self.find(snapshot)}
        glance = suspects_at_a_glance(self.membership, self._run) if self.with_suspects else None

        def look() -> list[Process]:
            nonlocal last
            last, new = self.host.arrivals(last)
            came = {process.pid: process for process in new if not process.container}
            kin.difference_update(process.pid for process in new)  # the earlier processes with these pids are gone
            ours = spared | descendants(kept | came, own)
            judged = Members.of(kept | came, description, Exceptions(frozenset(ours))) if came else {}
            found = {identity.pid for identity in judged}
            if came and glance:
                above = {each.parent: snapshot[each.parent] for each in came.values() if each.parent in snapshot}
                table = kept | above | came
                tied = glance(table, {*kin, *found}, {*ours, *above}) or self._find_suspects(table, ())
                found |= {identity.pid for identity in tied}
            kin.update(found | (descendants(came, kin) - ours))
            return [process for pid, process in came.items() if pid in kin]

        return look

    def _each(self, act: str) -> None:
        for group in filter(None, map(self.host.group, self.paths)):
            if group.place.exists() and (reason := methodcaller(act)(group)):
                logger.warning("%s", reason)
