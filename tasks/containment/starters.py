"""§3: find what may start the workload again though it has no child now: loops that wait, supervisors, entries."""

import os
from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from tasks.containment.cordon import caught
from tasks.containment.members import Snapshot, description_of, excused_pids, protected_pids
from tasks.containment.supervisors import ALLOW, may_stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source, Unknown
from tasks.host.launch_files import Reading, is_kept_down, named_texts, on_terminal, places_of
from tasks.host.process.process import descendants
from tasks.host.process.program import SHELLS
from tasks.host.process.table import ticks
from tasks.host.starter import (
    FOLDERS,
    LAUNCHERS,
    SUPERVISORS,
    WAITERS,
    Names,
    Starter,
    StarterFacts,
    StarterKind,
    living,
    names_of,
    units,
)
from tasks.runtime.frozen import load_frozen
from tasks.system.accounts import number_of

if TYPE_CHECKING:
    from blocks.workload_fields import WorkloadFields
    from tasks.host.host import Host
    from tasks.runtime.context import RunContext

_SECONDS: Final = 2.0
_UNIT: Final = str(Source(""))
_CALLED: Final = SHELLS | LAUNCHERS | SUPERVISORS.keys()


@dataclass(frozen=True)
class Starters:
    """What may start the workload again: what lives, entries of files, shells to answer for, and what was not read."""

    living: tuple[Starter, ...] = ()
    entries: tuple[Starter, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The entries, and what was not looked at, each in a line."""
        missed = f"not looked at for what starts the workload 未確認: {', '.join(self.unread)}"
        return (*map(str, self.entries), *([missed] if self.unread else []))


def look_for_starters(  # noqa: PLR0913, PLR0917  all that it is known by
    host: "Host",
    workload: "WorkloadFields",
    snapshot: Snapshot,
    spared: Collection[int],
    started: Collection[Source],
    since: int,
) -> Starters:
    """Look for two seconds at most, after a freeze. `started` are sources of the workload, `spared` pids left out."""
    roots = (str(workload.root), os.path.realpath(workload.root))
    quoted = (each.replace(" ", "\\ ") for each in roots)  # as a shell's words
    patterns = (each.pattern for each in description_of(workload).matchers if each.role != "worker")
    names = Names(tuple(dict.fromkeys((*roots, *quoted))), tuple(patterns))
    pids = [pid for pid, each in snapshot.items() if pid not in spared and not _CALLED.isdisjoint(names_of(each))]
    reading, texts = Reading(names, workload.units), dict[Identity, str]()
    shown, down, done = list[dict[str, str]](), set[int](), Event()

    def read() -> None:
        texts.update((snapshot[pid].identity, named_texts(snapshot[pid])) for pid in pids)
        down.update(pid for pid in pids if names_of(snapshot[pid]) & FOLDERS and is_kept_down(snapshot[pid]))
        shown.extend(host.systemd.services())
        reading.look(places_of({Path(workload.root).stat().st_uid, number_of(workload.user) or 0}))
        done.set()

    reader = Thread(target=read, daemon=True)  # a file of a dead file system is waited for no longer
    reader.start()
    reader.join(_SECONDS)
    entries, unread = tuple(reading.entries), (*reading.unread, *([] if done.is_set() else ["the rest"]))
    configured = {
        keeper: each.how_to_stop.split()[-1]
        for each in entries
        for keeper, cure in SUPERVISORS.items()
        if each.kind is StarterKind.CONFIGURED and each.how_to_stop.split()[0] == cure.split()[0]
    }
    typed = {snapshot[pid].identity for pid in pids if on_terminal(snapshot[pid])}
    facts = StarterFacts(
        names, {each.identity for each in started if each.identity}, since, dict(texts), typed, configured
    )
    alive, unknown = living(snapshot, {*pids} - down, facts)
    ours = {*workload.units, *(str(pid) for pid in spared)}
    named = {each.name for each in started if not each.identity}
    return Starters((*alive, *units(tuple(shown), names, ours, named)), entries, unknown, unread)


def find_starters(context: "RunContext", snapshot: Snapshot) -> Starters:
    """Look for what may start this incident's workload again; for nothing once it was recovered."""
    if context.state.recovered.read():
        return Starters()
    spared = protected_pids(context, snapshot) | excused_pids(context, snapshot)
    frozen = load_frozen(context.state)
    started = {source for each in frozen.values() for source in each.lineage} | _units_seen(context)
    spared |= {identity.pid for identity in frozen}
    since = context.state.since.read() or ticks()
    return look_for_starters(context.adapters.host, context.workload, snapshot, spared, started, since)


def _units_seen(context: "RunContext") -> set[Source]:
    """Return the units that have started what the guard caught and what came back, since the incident was opened."""
    rows = caught(context.cordon_files, context.incident.opened_at)
    sources = [each.source for each in context.state.returned.read()]
    sources += [source for row in rows for source in str(row.get("source", "")).split(", started by ")]
    return {Source(each.removeprefix(_UNIT)) for each in sources if each.startswith(_UNIT)}


def reasons_to_stop(
    context: "RunContext", snapshot: Snapshot, found: Starters, known: Container[Identity | str | None]
) -> list[tuple[Starter, str]]:
    """Log all starters; return those that live, each with a line that contradicts containment.

    Left out are those that are `known` already, by identity or as a source.
    """
    remaining = [each for each in found.living if each.identity not in known and str(each.source) not in known]
    allowed = context.workload.stop_supervisors
    advice = [f"; or {ALLOW}" if not allowed and may_end(context, snapshot, each) else "" for each in remaining]
    for each in (*remaining, *found.entries):
        context.log.write("starter", each.place, why=each.why)
    return [(each, f"{each}{more}") for each, more in zip(remaining, advice, strict=True)]


def may_end(context: "RunContext", snapshot: Snapshot, starter: Starter) -> bool:
    """Return whether no other work depends on a starter that lives: its children wait, or were frozen."""
    below = (snapshot[pid] for pid in descendants(snapshot, [starter.identity.pid] if starter.identity else ()))
    own = {*load_frozen(context.state), *(each.identity for each in below if names_of(each) & WAITERS)}
    return may_stop(context, snapshot, starter.source, own)
