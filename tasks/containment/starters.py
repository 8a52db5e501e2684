"""§3: find what may start the workload again though it has no child now: loops that wait, supervisors, entries."""

import os
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from blocks.workload_fields import WorkloadFields
from tasks.containment.members import Membership, Snapshot, description_of
from tasks.containment.supervisors import ALLOW, may_stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source, Unknown
from tasks.host.host import Host
from tasks.host.launch_files import Reading, is_kept_down, named_texts, on_terminal, places_of
from tasks.host.process.known_programs import SHELLS
from tasks.host.process.process import descendants
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
    host: Host,
    workload: WorkloadFields,
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
    lost = list[str]()
    shown, down, done = list[dict[str, str]](), set[int](), Event()

    def read() -> None:
        texts.update((snapshot[pid].identity, named_texts(snapshot[pid])) for pid in pids)
        down.update(pid for pid in pids if names_of(snapshot[pid]) & FOLDERS and is_kept_down(snapshot[pid]))
        shown.extend(host.systemd.services())
        accounts = {number_of(workload.user) or 0}
        try:
            accounts.add(Path(workload.root).stat().st_uid)
        except OSError as error:
            lost.append(f"{workload.root}: {error.strerror}")
        reading.look(places_of(accounts))
        done.set()

    reader = Thread(target=read, daemon=True)  # a file of a dead file system is waited for no longer
    reader.start()
    reader.join(_SECONDS)
    entries, unread = tuple(reading.entries), (*lost, *reading.unread, *([] if done.is_set() else ["the rest"]))
    configured = {
        keeper: each.how_to_stop.split()[-1]
        for each in entries
        for keeper, cure in SUPERVISORS.items()
        if each.kind is StarterKind.CONFIGURED and each.how_to_stop.split()[0] == cure.split()[0]
    }
    typed = {snapshot[pid].identity for pid in pids if on_terminal(snapshot[pid])}
    known = {each.identity for each in started if each.identity}
    facts = StarterFacts(names, known, since, dict(texts), typed, configured)
    alive, unknown = living(snapshot, {*pids} - down, facts)
    ours = {*workload.units, *(str(pid) for pid in spared)}
    named = {each.name for each in started if not each.identity}
    return Starters((*alive, *units(tuple(shown), names, ours, named)), entries, unknown, unread)


def find_starters(membership: Membership, caught: Iterable[Mapping[str, Any]], snapshot: Snapshot) -> Starters:
    """Look for what may start this incident's workload again; for nothing once it was recovered.

    `caught` is what the guard has written since the incident was opened.
    """
    state = membership.state
    if state.recovered.read():
        return Starters()
    frozen, sources = load_frozen(state), [each.source for each in state.returned.read()]
    sources += [source for row in caught for source in str(row.get("source", "")).split(", started by ")]
    started = {source for each in frozen.values() for source in each.lineage}
    started |= {Source(each.removeprefix(_UNIT)) for each in sources if each.startswith(_UNIT)}
    spared = membership.spared_pids(snapshot) | {identity.pid for identity in frozen}
    since = state.since.read() or ticks()
    return look_for_starters(membership.host, membership.workload, snapshot, spared, started, since)


def reasons_to_stop(
    membership: Membership, snapshot: Snapshot, found: Starters, known: Container[Identity | str | None]
) -> list[tuple[Starter, str]]:
    """Return the starters that live, each with a line that contradicts containment.

    Left out are those that are `known` already, by identity or as a source.
    """
    remaining = [each for each in found.living if each.identity not in known and str(each.source) not in known]
    allowed = membership.workload.stop_supervisors
    advice = [f"; or {ALLOW}" if not allowed and may_end(membership, snapshot, each) else "" for each in remaining]
    return [(each, f"{each}{more}") for each, more in zip(remaining, advice, strict=True)]


def may_end(membership: Membership, snapshot: Snapshot, starter: Starter) -> bool:
    """Return whether no other work depends on a starter that lives: its children wait, or were frozen."""
    below = (snapshot[pid] for pid in descendants(snapshot, [starter.identity.pid] if starter.identity else ()))
    own = {*load_frozen(membership.state), *(each.identity for each in below if names_of(each) & WAITERS)}
    return may_stop(membership, snapshot, starter.source, own)
