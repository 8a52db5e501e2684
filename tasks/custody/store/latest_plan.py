"""Plan a transaction of latest/: what is added, replaced, kept or deleted, and when it may be resumed (runbook §5)."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import FOLDERS, SNAPSHOT_FOLDERS, in_snapshot, kept_key, latest_name
from tasks.custody.store.latest import GIVEN_UP, Act, Latest, LatestRow, LatestTransaction, ObjectRef


def plan(
    number: int, present: Latest, wanted: Latest, *, surplus: Collection[str] = (), remove: Collection[str] = ()
) -> tuple[LatestRow, ...]:
    """Return what the turn of this number does with each file.

    `remove` may be deleted if their content is held elsewhere; `surplus` is what a mirror would delete. Afterwards
    everything wanted is present, and everything replaced or deleted is held elsewhere. Planning again gives only KEEP;
    the `before` of all rows is what was present.
    """
    surplus, remove = frozenset(surplus), frozenset(remove)

    def row(key: str) -> LatestRow:
        before, after = present.get(key), wanted.get(key)
        if before is None:
            return LatestRow(key, Act.ADD, None, after)
        if after is None:
            gone = key in remove and before.key
            unheld = Act.WOULD_DELETE if key in surplus | remove else Act.KEEP
            return LatestRow(key, Act.DELETE if gone else unheld, before, None if gone else before)
        if before.sha256 == after.sha256:
            known = before if before.key else after
            return LatestRow(key, Act.KEEP, known, known)
        held = before if before.key else replace(before, key=kept_key(number, latest_name(key)))
        return LatestRow(key, Act.REPLACE, held, after)

    return tuple(row(key) for key in sorted({*present, *wanted}))


def surplus_of(
    present: Latest, wanted: Latest, spared: Collection[str], unsure: Collection[str] = ()
) -> frozenset[str]:
    """Return what a mirror deletes: files that the workload no longer has, in folders of which it has any.

    A missing folder deletes nothing, nor does an incompletely collected one (`unsure`). Files that exist but may not be
    promoted (`spared`) keep their last good state.
    """
    folders = {_folder(key) for key in wanted} - {*unsure}
    gone = (key for key in present if key not in wanted and key not in spared)
    return frozenset(key for key in gone if in_snapshot(latest_name(key)) and _folder(key) in folders)


def unsure_of(attempts: Collection[Evidence]) -> frozenset[str]:
    """Return the folders that were not collected completely: files not found there may still exist."""
    lost = {part for item in attempts for loss in item.losses for part in loss.source.split("/")}
    bare = {item.collector for item in attempts if not item.outcome.is_complete}
    silent = bare & {item.collector for item in attempts if not item.losses}
    if FOLDERS in lost | silent:
        return frozenset(SNAPSHOT_FOLDERS)
    return frozenset(SNAPSHOT_FOLDERS) & (lost | bare)


def _folder(key: str) -> str:
    return latest_name(key).partition("/")[0]


def pending(turn: LatestTransaction) -> tuple[dict[str, ObjectRef], frozenset[str]]:
    """Return what remains of an uncommitted turn: files to write, and keys to delete."""
    coming = {row.key: row.after for row in turn.rows if row.act in {Act.ADD, Act.REPLACE} and row.after}
    return coming, frozenset(row.key for row in turn.rows if row.act is Act.DELETE)


def why_not_now(last: LatestTransaction, incident: str, now: datetime) -> str:
    """Return why an uncommitted turn may not be resumed yet; empty if it may.

    An incident's earlier run is known to be dead: only one run at a time owns the workload.
    """
    if (incident and last.incident == incident) or now - last.begun_at > GIVEN_UP:
        return ""
    holder = last.incident or (f"lowering {last.lowered}" if last.lowered else f"a rollback before turn {last.undoes}")
    return f"turn {last.number} ({holder}, by {last.by}) is under way since {last.begun_at:%Y-%m-%d %H:%M:%S} UTC"


def kept_copies(number: int, rows: Iterable[LatestRow]) -> dict[str, str]:
    """Return the copies that a turn made of content that it replaced, digest by key."""
    befores = ((row.key, row.before) for row in rows if row.act is Act.REPLACE and row.before)
    return {held.key: held.sha256 for key, held in befores if held.key == kept_key(number, latest_name(key))}
