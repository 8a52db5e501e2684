"""§3: find who has changed a file below the root after the stop, by the incident's log, and lives."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import filterfalse
from typing import Any, Final, NamedTuple

from tasks.containment.members import Membership
from tasks.containment.suspects import find_accounts
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment
from tasks.custody.visible import join_some
from tasks.host.launch_files import on_terminal
from tasks.host.process.known_programs import EVERYBODYS, HARMLESS, PROGRAMMED, SHELLS, is_one_of, program
from tasks.host.process.newcomer import climb
from tasks.host.process.process import Process, descendants
from tasks.host.process.table import began_at, untouchable
from tasks.host.silence import show
from tasks.runtime.context import RunContext

_NAMED: Final = 5
QUIET_SECONDS: Final = 120.0
"""How long nothing may have changed after a change of which nobody is known that could be ended."""


def find_writers(
    entries: Iterable[Mapping[str, Any]], snapshot: Mapping[int, Process], accounts: Collection[int]
) -> dict[Process, str]:
    """Return who has changed a file and lives, or what lives and has started who has ended, with the last change.

    A run hears whoever writes while it listens: one that pauses for longer is known by what an earlier run has heard.
    `accounts` are the workload's.
    """
    living = _living(snapshot)
    found = dict[Process, str]()
    for row in (each for each in entries if each["action"] == "changed" and each.get("source")):
        nearest = _find_nearest(row, living)
        writes = nearest is not None and nearest.identity == Identity.of(row["lineage"][0])
        if process := nearest if writes else climb(snapshot, nearest):
            child = f"it has started process {row['pid']}, which has ended and had"
            has = "it has" if writes else child
            at = datetime.fromisoformat(row["at"])
            if writes or not _waits_for_a_person(process, snapshot, accounts):
                how = f"; {row['how']}" if row.get("how") else ""
                found[process] = f"{has} changed {row['object']} at {at:%H:%M:%S}Z, after everything was stopped{how}"
    return found


class UnknownChanges(NamedTuple):
    """Changes of which nobody is known that could be ended, the last one last.

    This run has heard them `now`; or an `earlier` one has, or they were made between two runs, when nobody listened
    (`unheard`).
    """

    now: list[Mapping[str, Any]]
    earlier: list[Mapping[str, Any]]


def find_changes_by_unknown(context: RunContext) -> UnknownChanges:
    """Return these: who wrote is not known, or was gone as it was heard, and what had started it too.

    That may live, and start another. What bystanders are known to write they have written then too.
    """
    rows = [each for each in context.log.entries() if each["action"] == "changed"]
    if not rows:
        return UnknownChanges([], [])
    snapshot, logged = context.adapters.host.snapshot(), context.listening.logged if context.listening else ()
    living, bystanders = _living(snapshot), Membership(context).bystander_pids(snapshot)
    known = {identity for identity, each in living.items() if each.pid in bystanders}
    theirs = {row["object"] for row in rows if not known.isdisjoint(map(Identity.of, row["lineage"]))}

    def is_unknown(row: Mapping[str, Any]) -> bool:
        lineage, source = row["lineage"], row["source"]
        if not lineage or not source or source[0] == lineage[0]:
            return not lineage
        return climb(snapshot, _find_nearest(row, living)) is None

    def is_now(row: Mapping[str, Any]) -> bool:
        return (row["object"], row["pid"]) in logged

    others = (each for each in rows if each["object"] not in theirs)
    found = sorted(filter(is_unknown, others), key=lambda row: str(row["at"]))
    return UnknownChanges([*filter(is_now, found)], [*filterfalse(is_now, found)])


def find_possible_starters(
    rows: Sequence[Mapping[str, Any]], snapshot: Mapping[int, Process], accounts: Collection[int]
) -> dict[Process, str]:
    """Return what may have started who made the last of these changes, of which nobody is known, and may do so again.

    That is what was there before with the command line of who made it, as a loop has that writes by copies of itself;
    else what of the workload's `accounts` was, and runs code of its own: no tool of the host, no shell at its prompt,
    and nothing in a container, whose accounts are others. Of our own account, as root's, it could be anything, and
    nothing is returned.
    """
    if not rows:
        return {}
    at, writer = datetime.fromisoformat(rows[-1]["at"]), rows[-1].get("writer")
    change = f"may have started who has changed {rows[-1]['object']} at {at:%H:%M:%S}Z, nobody knows 不明"
    there = [each for each in snapshot.values() if each.alive and not each.container]
    there = [each for each in there if began_at(each.identity.start) < at]
    before = [each for each in there if not _is_tool(each, snapshot)]
    if alike := [each for each in before if each.command and show(each) == writer]:
        return dict.fromkeys(alike, f"it has that one's command line, and {change}")
    able = (each for each in before if each.user in {*accounts} - {os.geteuid()})
    return dict.fromkeys(able, f"it is of the workload's account, and {change}")


def _is_tool(process: Process, snapshot: Mapping[int, Process]) -> bool:
    """Return whether a program of the host starts nothing by itself: a reader, a person's editor, a shell at rest."""
    if is_one_of(SHELLS, process):
        return _is_idle(process, snapshot) and on_terminal(process)
    if is_one_of(PROGRAMMED, process):
        return on_terminal(process)
    return is_one_of(HARMLESS | EVERYBODYS, process)


def _living(snapshot: Mapping[int, Process]) -> dict[Identity, Process]:
    return {each.identity: each for each in snapshot.values() if each.alive}


def _find_nearest(row: Mapping[str, Any], living: Mapping[Identity, Process]) -> Process | None:
    """Return the writer in the row of a change, or the nearest of its ancestors, that lives; None if none does."""
    lineage = filter(None, map(Identity.of, row["lineage"]))
    return next((living[each] for each in lineage if each in living), None)


def with_unrest(context: RunContext, seen: Containment) -> Containment:
    """Return a check with what was changed by nobody known: too lately for a green word, or a note.

    Of what this run has heard, which is red in any case, with what may have started it.
    """
    if seen.recovered:
        return seen
    changes = find_changes_by_unknown(context)
    if changes.now:
        seen = replace(seen, alive=(*seen.alive, *_tell_starters(Membership(context), seen, changes.now)))
    if not (rows := changes.earlier):
        return seen
    if why := _tell_unrest(rows, datetime.now(UTC)):
        return replace(seen, alive=(*seen.alive, why))
    context.unrest = f"{_tell(rows)}; what may do so again is not known 書込元は不明のまま"
    return replace(seen, notes=(*seen.notes, context.unrest))


def _tell_starters(membership: Membership, seen: Containment, heard: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what may have started who made these changes, which this run has heard: the next run asks about each."""
    snapshot, unknown = membership.host.snapshot(), {each.identity for each in seen.unknown}
    spared = membership.bystander_pids(snapshot) | untouchable(snapshot)
    found = find_possible_starters(heard, snapshot, find_accounts(membership))
    able = [each for each in found if each.identity not in unknown and each.pid not in spared]
    if able:
        lines = [f"{each.pid} ({show(each)})" for each in able]
        yield f"what may have started it 起動元の可能性: {join_some(lines, _NAMED)}"


def _tell(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the last of these changes, and which other files were changed."""
    last = rows[-1]
    others = [*dict.fromkeys(each["object"] for each in reversed(rows) if each["object"] != last["object"])]
    also = f" (so was {join_some(others, _NAMED)})" if others else ""
    return f"{last['result']}{'' if last.get('unheard') else ', as an earlier run has heard'}{also}"


def _tell_unrest(rows: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Return that the last of these changes is too young for a green word, and until when; empty if it is not.

    Between two runs a person may have been at work in the root: what was not heard counts where something was.
    """
    quiet = datetime.fromisoformat(rows[-1]["at"]) + timedelta(seconds=QUIET_SECONDS)
    if quiet <= now or all(each.get("unheard") for each in rows):
        return ""
    return (
        f"{_tell(rows)}; what may have started it is not found, so nothing may "
        f"change for {QUIET_SECONDS:g} s: carry the incident on after {quiet:%H:%M:%S}Z その時刻以降に続行"
    )


def _waits_for_a_person(process: Process, snapshot: Mapping[int, Process], accounts: Collection[int]) -> bool:
    """Return whether it is a shell at its prompt, with nothing at work, of root or of another account's person."""
    idle = program(process) in SHELLS and _is_idle(process, snapshot)
    return idle and (process.user == 0 or process.user not in accounts) and on_terminal(process)


def _is_idle(process: Process, snapshot: Mapping[int, Process]) -> bool:
    return not any(snapshot[pid].alive for pid in descendants(snapshot, [process.pid]))
