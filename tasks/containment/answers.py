"""Keep which processes are not known, and what people answer on them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.custody.containment.answer import Answer, GivenAnswer, answered_processes
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Unknown
from tasks.custody.errors import Refused
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import Host, lives
from tasks.incident.layout import ANSWERS, UNKNOWN
from tasks.system.files.atomic_files import identities, read_private, rows_of

if TYPE_CHECKING:
    from tasks.runtime.state import IncidentState


def to_answer(home: Path, host: Host) -> tuple[Unknown, ...]:
    """Return the living processes that the incident's last check did not know, and that nobody has answered since."""
    done = identities([home / ANSWERS])
    return tuple(each for each in _read_unknowns(home) if each.identity not in done and lives(host, each.identity))


def find_unknown(home: Path, host: Host, pid: int) -> Unknown:
    """Return the process of this pid that the incident's last check did not know.

    Raises Refused if the check did not name it, or if it has ended since and its pid may be another's.
    """
    noted = {each.identity.pid: each for each in _read_unknowns(home)}
    if pid not in noted:
        expected = f"a process that the last check of {home.name} did not know: "
        remedy = "Give the pid of one of these; where there is none, run the evacuation again."
        raise Refused(f"{expected}{', '.join(map(str, noted)) or 'it knew all'}", str(pid), remedy)
    if not lives(host, noted[pid].identity):
        expected = f"process {pid} as the last check of {home.name} saw it, {noted[pid].command}"
        got = "none, or another one that has its pid now: that one has ended"
        raise Refused(expected, got, "Run the evacuation again, which looks again.")
    return noted[pid]


def answered_bystanders(home: Path) -> frozenset[Identity]:
    """Return the processes of which the last answer in this incident says that they are bystanders."""
    rows = rows_of(home / ANSWERS, read_private)
    answers = [(identity, str(row.get("decision"))) for row in rows if (identity := Identity.of(row))]
    return answered_processes(answers, "bystander")


def _read_unknowns(home: Path) -> list[Unknown]:
    rows = ((Identity.of(row), row) for row in rows_of(home / UNKNOWN, read_private))
    return [
        Unknown(identity, *(str(row.get(name, "")) for name in ("command", "why", "line")))
        for identity, row in rows
        if identity
    ]


def keep_answer(state: "IncidentState", log: CustodyLog, given: GivenAnswer, process: Unknown, reason: str) -> None:
    """Put an answer on record, before anything acts on it."""
    details = {"decision": given.decision, "by": given.by, "reason": reason, "command": process.command}
    log.write("process answered", str(given.pid), **details, why=process.why, line=process.line)
    answer = Answer(process.identity, process.command, given.decision, given.by, datetime.now(UTC), process.line)
    state.answers.write([*state.answers.read(), answer])
