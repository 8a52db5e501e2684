"""Audit an incident from its store without a Prefect server, or list the incidents and fleets of a store."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TypeVar

from tasks.audit.fleet import audit_by_id
from tasks.audit.list_incidents import columns, fleets, holdings
from tasks.audit.report import ENDINGS, lines
from tasks.cli.output import command, note, show
from tasks.cli.store_argument import named_store
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.custody.store.timestamp import Roots, read_roots

T = TypeVar("T")


def audit_by_hand(  # noqa: PLR0913  its options
    store: str,
    incident: str = "",
    signers: Path | None = None,
    tsa_roots: Path | None = None,
    *,
    deep: bool,
    as_json: bool,
) -> int:
    """Print what the audit found, or the list; return the exit code of its state. Raises EvacuationError."""
    if (signers or tsa_roots or deep) and not incident:
        raise Refused("INCIDENT, as --signers, --tsa-roots and --deep are of one", "none", "Without them: the list.")
    fields = named_store(store)
    if not incident:
        opened = fields.open()
        held = {"incidents": holdings(opened), "fleets": fleets(opened)}
        tables = [columns(rows, what) for what, rows in held.items() if rows] or [columns([], "incidents")]
        following = [f"next: {command('audit', store or opened.place, 'INCIDENT')}"] if any(held.values()) else []
        show("audit", [*chain(*tables), *following], {"place": opened.place, **held}, as_json=as_json)
        return 0
    allowed, roots = read_trust(signers, tsa_roots)
    note(f"auditing {incident} in {fields.place}, {'reading every byte' if deep else 'by the digests of the store'}")
    found = audit_by_id(fields, incident, allowed, roots, deep=deep)
    code = EXIT_CODES[ENDINGS[found.word].name]
    show("audit", lines(found), {"word": found.word, "exit_code": code, **asdict(found)}, as_json=as_json)
    return code


def read_trust(signers: Path | None, tsa_roots: Path | None) -> tuple[Sequence[AllowedSigner] | None, Roots]:
    """Read who may sign, and who may vouch for the time. Raises Refused for a file that is no such one."""
    return (
        read_file(signers, read_signers, "an allowed_signers file", "Make one, or leave --signers out."),
        read_file(tsa_roots, read_roots, "a file of certificates", "Get it from the authority, or leave it out."),
    )


def read_file(path: Path | None, parse: Callable[[str], T], expected: str, remedy: str) -> T | None:
    """Return what a file says, None without one. Raises Refused for one that cannot be read or parsed."""
    if path is None:
        return None
    try:
        return parse(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(expected, f"{path}: {error}", remedy) from error
