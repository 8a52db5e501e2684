"""§3: find who has changed a file below the root after the stop, by the incident's log, and lives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tasks.containment.members import Membership
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment
from tasks.host.launch_files import on_terminal
from tasks.host.process.known_programs import SHELLS, program
from tasks.host.process.newcomer import climb
from tasks.host.process.process import Process, descendants
from tasks.runtime.context import RunContext

QUIET_SECONDS: Final = 120.0
"""How long nothing may have changed after a change of which nobody is known that could be ended."""


def find_writers(
    entries: Iterable[Mapping[str, Any]], snapshot: Mapping[int, Process], account: int | None
) -> dict[Process, str]:
    """Return who has changed a file and lives, or what lives and has started who has ended, with the last change.

    A run hears whoever writes while it listens: one that pauses for longer is known by what an earlier run has heard.
    `account` is the workload's.
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
            if writes or not _waits_for_a_person(process, snapshot, account):
                how = f"; {row['how']}" if row.get("how") else ""
                found[process] = f"{has} changed {row['object']} at {at:%H:%M:%S}Z, after everything was stopped{how}"
    return found


def find_changes_by_unknown(context: RunContext) -> list[Mapping[str, Any]]:
    """Return the changes that an earlier run heard and of which nobody is known that could be ended, the last one last.

    Who wrote is not known, or was gone as it was heard, and what had started it too: that may live, and start another.
    What bystanders are known to write they have written then too.
    """
    logged = context.listening.logged if context.listening else ()
    rows = [each for each in context.log.entries() if each["action"] == "changed"]
    earlier = [each for each in rows if (each["object"], each["pid"]) not in logged]
    if not earlier:
        return []
    snapshot = context.adapters.host.snapshot()
    living, bystanders = _living(snapshot), Membership(context).bystander_pids(snapshot)
    known = {identity for identity, each in living.items() if each.pid in bystanders}
    theirs = {row["object"] for row in rows if not known.isdisjoint(map(Identity.of, row["lineage"]))}

    def is_unknown(row: Mapping[str, Any]) -> bool:
        lineage, source = row["lineage"], row["source"]
        if not lineage or not source or source[0] == lineage[0]:
            return not lineage
        return climb(snapshot, _find_nearest(row, living)) is None

    others = (each for each in earlier if each["object"] not in theirs)
    return sorted(filter(is_unknown, others), key=lambda row: str(row["at"]))


def _living(snapshot: Mapping[int, Process]) -> dict[Identity, Process]:
    return {each.identity: each for each in snapshot.values() if each.alive}


def _find_nearest(row: Mapping[str, Any], living: Mapping[Identity, Process]) -> Process | None:
    """Return the writer in the row of a change, or the nearest of its ancestors, that lives; None if none does."""
    lineage = filter(None, map(Identity.of, row["lineage"]))
    return next((living[each] for each in lineage if each in living), None)


def with_unrest(context: RunContext, seen: Containment) -> Containment:
    """Return a check with what an earlier run heard by nobody known: too young for a green word, or a note."""
    if seen.recovered or not (rows := find_changes_by_unknown(context)):
        return seen
    if why := _tell_unrest(rows, datetime.now(UTC)):
        return replace(seen, alive=(*seen.alive, why))
    note = f"{rows[-1]['result']}, as an earlier run has heard; what may do so again is not known 書込元は不明のまま"
    return replace(seen, notes=(*seen.notes, note))


def _tell_unrest(rows: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Return that the last of these changes is too young for a green word, and until when; empty if it is not."""
    quiet = datetime.fromisoformat(rows[-1]["at"]) + timedelta(seconds=QUIET_SECONDS)
    if quiet <= now:
        return ""
    return (
        f"{rows[-1]['result']}, as an earlier run has heard; what may have started it is not found, so nothing may "
        f"change for {QUIET_SECONDS:g} s: carry the incident on after {quiet:%H:%M:%S}Z その時刻以降に続行"
    )


def _waits_for_a_person(process: Process, snapshot: Mapping[int, Process], account: int | None) -> bool:
    """Return whether it is a shell at its prompt, with nothing at work, of root or of another account's person."""
    idle = program(process) in SHELLS and not any(snapshot[pid].alive for pid in descendants(snapshot, [process.pid]))
    return idle and (process.user == 0 or process.user != account) and on_terminal(process)
