"""Pull from the store into a folder, or roll latest/ back, without a Prefect server."""

import os
import socket
from pathlib import Path
from typing import Any, TypeAlias

from blocks.port import Store
from tasks.audit.verify import verify_incident
from tasks.cli.audit import read_trust
from tasks.cli.output import command, note, show
from tasks.cli.store_argument import named_store
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.records import NO_CLOSING
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import INCOMPLETE
from tasks.custody.store.latest import CHANGES
from tasks.latest.bag import bag
from tasks.latest.history import history
from tasks.latest.pull import Pull, RestoreOutcome, pull
from tasks.latest.rollback import RollbackRequest, lower, lowering, plan_of, rollback
from tasks.system.accounts import account_name


class _Changes:
    """A log that keeps only the changed files."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Keep the entry of a changed file."""
        if action == "promoted":
            self.rows.append({"act": str(facts["act"]), "key": subject})


def rollback_by_hand(store: str, turn: int, *, dry_run: bool, take_over: bool, as_json: bool) -> int:
    """Roll latest/ back to before a turn; return 0 only if that is complete. Raises EvacuationError."""
    opened, request = named_store(store).open_latest(), _request(turn, take_over=take_over)
    if dry_run:
        plan = plan_of(opened, request)
        rows = [{"act": str(row.act), "key": row.key} for row in plan]
        real = "Without --dry-run the changes above would be made."
        none = "There is nothing to undo: latest/ is what it was before that turn."
        ending = [f"Nothing was done in {opened.place}. {real if any(row.act in CHANGES for row in plan) else none}"]
        data = {"place": opened.place, "dry_run": True, "changes": rows, "summary": ""}
        show("rollback", [*map(_format_row, rows), *ending], data, as_json=as_json)
        return 0
    note(f"rolling latest/ back in {opened.place}")
    result = rollback(opened, request, changes := _Changes())
    ending = [f"{opened.place}: {result.summary}"]
    if result.turn:
        ending += [f"to take this back: {command('rollback', store)}"]
        ending += [f"to have it here: {command('pull', store, 'INTO')}"]
    data = {"place": opened.place, "dry_run": False, "changes": changes.rows, "summary": result.summary}
    show("rollback", [*map(_format_row, changes.rows), *ending], data, as_json=as_json)
    return 0 if result.is_complete else INCOMPLETE


def lower_by_hand(store: str, turn: int, *, dry_run: bool, take_over: bool, as_json: bool) -> int:
    """Let incidents of today promote again, changing no file; return 0 only if they may. Raises EvacuationError."""
    opened, request = named_store(store).open_latest(), _request(turn, take_over=take_over)
    past, to = history(opened).last, lowering(opened, request).lower_to
    before = past.newest if past else ""
    change = f"the newest incident of latest/ from {before or 'none'} to {to or 'none'}"
    data = {"place": opened.place, "dry_run": dry_run, "newest_before": before, "newest": to}
    if dry_run:
        line = f"nothing was done in {opened.place}; without the dry run it would lower {change}"
        show("rollback", [line], {**data, "summary": ""}, as_json=as_json)
        return 0
    result = lower(opened, request, _Changes())
    line = f"{opened.place}: {result.summary}; lowered {change}"
    show("rollback", [line], {**data, "summary": result.summary}, as_json=as_json)
    return 0 if result.is_complete else INCOMPLETE


def _request(turn: int, *, take_over: bool) -> RollbackRequest:
    return RollbackRequest(f"{account_name(os.geteuid())}@{socket.gethostname()}, by hand", turn, take_over)


Bagging: TypeAlias = tuple[str, Path | None, Path | None]
"""Who hands a bag over, and for the audit before it who may sign, and who may vouch for the time."""


def pull_by_hand(  # noqa: PLR0913  its options
    store: str,
    into: Path,
    what: str,
    *,
    overwrite: bool,
    unpromised: Path | None,
    bagged: bool,
    bagging: Bagging,
    as_json: bool,
) -> int:
    """Pull into the folder; return 0 only if all that is promised is there now. Raises EvacuationError."""
    opened = named_store(store).open()
    if not str(into).strip("."):
        raise Refused("INTO, a folder", "none", "As in /srv/mlops-sklearn-portfolio.")
    if any(bagging) and not bagged:
        raise Refused("--bag with --organization, --signers or --tsa-roots", "none", "Give it, or leave them out.")
    note(f"pulling {what} from {opened.place} into {into}")
    if bagged:
        result = _make_bag(opened, into, what, bagging, unpromised)
    else:
        result = pull(opened, what, into, overwrite=overwrite, unpromised=unpromised)
    rows = [{"outcome": str(each.outcome), "name": each.name, "reason": each.reason} for each in result.files]
    others = [row for row in rows if row["outcome"] != RestoreOutcome.SAME]
    lines = [*filter(None, [result.held])]
    lines += [f"{row['outcome']:>12}  {row['name']}{row['reason'] and ': ' + row['reason']}" for row in others]
    again = "fix what is named above, or give --overwrite for newer files, and run this again; what is here stays"
    lacks = any(each.reason for each in result.files if each.outcome in {RestoreOutcome.NEW, RestoreOutcome.REPLACED})
    given = "by chown and chmod give what is named above 所有者と権限, then " if lacks else ""
    following = f"{given}start what reads it, or let it load it again" if result.is_complete else again
    if bagged:
        good, bad = f"bagit.py --validate {into / what}", f"there is no bag: remove {into / what}, and audit {what}"
        following = good if result.is_complete else bad
    places = {"place": opened.place, "into": str(into)}
    data = {**places, "complete": result.is_complete, "summary": result.summary, "held": result.held, "files": rows}
    show("pull", [*lines, f"{result.summary}, in {into}", f"next: {following}"], data, as_json=as_json)
    return 0 if result.is_complete else INCOMPLETE


def _make_bag(store: Store, into: Path, what: str, bagging: Bagging, unpromised: Path | None) -> Pull:
    """Make a bag of an incident after an audit. Raises Refused if that is contradicted, or not all of it is there."""
    organization, *files = bagging
    audit = verify_incident(store, what, *read_trust(*files), deep=False)
    if audit.word in {AuditWord.BROKEN, AuditWord.UNFINISHED} or audit.verdict == NO_CLOSING:
        cure = f"Audit it: evacuation audit STORE {what}."
        raise Refused("an incident that nothing contradicts", audit.summary, cure)
    return bag(store, into, organization, audit, unpromised)


def _format_row(row: dict[str, str]) -> str:
    return f"{row['act']:>12}  {row['key']}"
