"""§3: find who has changed a file below the root after the stop, by the incident's log, and lives."""

from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any

from tasks.custody.containment.identity import Identity
from tasks.host.launch_files import on_terminal
from tasks.host.process.known_programs import SHELLS, program
from tasks.host.process.newcomer import climb
from tasks.host.process.process import Process, descendants


def find_writers(
    entries: Iterable[Mapping[str, Any]], snapshot: Mapping[int, Process], account: int | None
) -> dict[Process, str]:
    """Return who has changed a file and lives, or what lives and has started who has ended, with the last change.

    A run hears whoever writes while it listens: one that pauses for longer is known by what an earlier run has heard.
    `account` is the workload's.
    """
    living = {each.identity: each for each in snapshot.values() if each.alive}
    found = dict[Process, str]()
    for row in (each for each in entries if each["action"] == "changed" and each.get("source")):
        lineage = [Identity.of(each) for each in row["lineage"]]
        nearest = next((living[each] for each in lineage if each in living), None)
        writes = nearest is not None and nearest.identity == lineage[0]
        if process := nearest if writes else climb(snapshot, nearest):
            child = f"it has started process {row['pid']}, which has ended and had"
            has = "it has" if writes else child
            at = datetime.fromisoformat(row["at"])
            if writes or not _waits_for_a_person(process, snapshot, account):
                how = f"; {row['how']}" if row.get("how") else ""
                found[process] = f"{has} changed {row['object']} at {at:%H:%M:%S}Z, after everything was stopped{how}"
    return found


def hears_unknown(entries: Iterable[Mapping[str, Any]], by_this_run: Container[tuple[str, int]]) -> bool:
    """Return whether an earlier run heard a change by somebody who is not known, and so may live."""
    rows = (each for each in entries if each["action"] == "changed" and not each["lineage"])
    return any((each["object"], each["pid"]) not in by_this_run for each in rows)


def _waits_for_a_person(process: Process, snapshot: Mapping[int, Process], account: int | None) -> bool:
    """Return whether it is a shell at its prompt, with nothing at work, of root or of another account's person."""
    idle = program(process) in SHELLS and not any(snapshot[pid].alive for pid in descendants(snapshot, [process.pid]))
    return idle and (process.user == 0 or process.user != account) and on_terminal(process)
