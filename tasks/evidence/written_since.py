"""§4: find files of the root that were written after they were taken: the next run of the incident takes them again."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from pathlib import PurePath
from typing import Any, Final

from prefect.futures import PrefectFuture

from tasks.collectors.code import survey
from tasks.containment.members import guard_of
from tasks.custody.evidence.acquisition import Evidence, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import IN_CONTAINER, MANIFEST, quote, unquote
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.manifest import Manifest
from tasks.evidence.left_alone import steady
from tasks.evidence.seal import read_manifest
from tasks.host.silence import Change
from tasks.incident.directory import find_own_places
from tasks.runtime.context import RunContext, RunInfo
from tasks.runtime.frozen import load_frozen
from tasks.runtime.state import IncidentState

_LOGGED: Final = 20
_RAN: Final = frozenset({"stopped", "rebooted", "uncordoned", "recovery ended"})


def note_written(context: RunContext, evidence: Sequence[Evidence]) -> None:
    """Keep which files of the root are not as they were taken, for this run's verdict and for the next to collect.

    Not once the API is back, which may write what it likes.
    """
    if _may_write_again(context.run, context.state):
        return
    since = _find_older(context.directory.root, (file for item in evidence for file in item.files))
    context.written_since = tuple(sorted(since.values()))
    _keep(context.state, context.log, since)


def note_between_runs(context: RunContext, stopped: PrefectFuture[Any]) -> None:
    """Keep which files of the root came, or were written, since earlier runs took its files; once all is stopped.

    Between two runs nobody listens: who did is not known. What no run has taken, because of its size or name, counts
    only if it is new.
    """
    if context.run.volume == 1 or _may_write_again(context.run, context.state):
        return
    stopped.wait()
    volumes = range(1, context.run.volume)
    sealed = [file for each in volumes for file in read_manifest(context.directory, each).files]
    taken = {unquote(each.source) for each in sealed if is_of_root(each)}
    root = context.directory.root
    since = _find_older(root, sealed)
    walk = survey(context.workload, find_own_places(context.workload))
    for name in (walk.all_names | {each.name for each in walk.remainders}) - taken:
        if (now := _look_at(root, name)) and now.st_ctime > context.incident.opened_at.timestamp():
            since[quote(name)] = os.fsdecode(name)
    _keep(context.state, context.log, since)
    _log_changes(context.log, root, since)


def sealed_whole(context: RunContext) -> set[str]:
    """Return the sources of files of the root that are sealed, and that nobody is known to have written since.

    Once something of the workload has run again, or may have, that is not known of any file sealed before. What was
    started under the guard that stands was frozen at once, and does not count.
    """
    found, guard = set[str](), guard_of(context.adapters.host, context.cordon_files.marker)
    caught = {str(each.pid) for each in load_frozen(context.state) if guard and each.start > guard.start}
    for entry in context.log.entries():
        if entry["action"] == "sealed":
            files = Manifest.at(context.directory.path / entry["object"] / MANIFEST).files
            found.update(file.source for file in files if is_of_root(file) and not unsteady("", file.note))
        elif entry["action"] == "written since":
            found.discard(entry["source"])
        elif entry["action"] in _RAN and entry["object"] not in caught:
            found.clear()
    return found


def _log_changes(log: CustodyLog, root: PurePath, since: dict[str, str]) -> None:
    """Log the last of these files that were changed between two runs: whoever did so lives, or was started by what may.

    What was written before is not new: it was heard then, or was by a newcomer that the guard has caught since.
    """
    began, found = _stood_until(log.entries()), list[Change]()
    for source, path in since.items():
        if (now := _look_at(root, unquote(source))) and now.st_ctime > began:
            found.append(Change(path, datetime.fromtimestamp(now.st_ctime, UTC)))
    for each in sorted(found, key=lambda change: change.at)[-_LOGGED:]:
        result = each.describe(", between two runs 実行と実行の間")
        log.write(
            "changed", each.file, at=each.at.isoformat(), pid=0, lineage=[], source=[], result=result, unheard=True
        )


def _stood_until(entries: Iterable[Mapping[str, Any]]) -> float:
    """Return when something was last done before this run, or a newcomer was caught since, in seconds of the epoch.

    Infinite unless an earlier run had stopped everything, and nobody has let it run since.
    """
    until, last, stopped = "", "", False
    for each in entries:
        if each["action"] == "run opened":
            until = last if stopped else ""
        last = each["utc"]
        if each["action"] == "came back" and until:
            until = last
        if each.get("step_id") == "stop":
            stopped = stopped or each["action"] in {"step done", "step incomplete"}
        stopped = stopped and each["action"] not in {"thawed", "uncordoned"}
    return datetime.fromisoformat(until).timestamp() if until else inf


def _may_write_again(run: RunInfo, state: IncidentState) -> bool:
    return run.dry_run or bool(state.recovered.read() or state.recovered_containers.read())


def _find_older(root: PurePath, files: Iterable[StoredFile]) -> dict[str, str]:
    """Return the source and path of each file of the root that is not as it was when it was taken last."""
    last = {file.source: file for file in files if is_of_root(file)}
    return {source: file.path for source, file in last.items() if _is_older(root, file)}


def _keep(state: IncidentState, log: CustodyLog, since: dict[str, str]) -> None:
    before = state.written_since.read()
    if not since.keys() <= {*before}:
        state.written_since.write(sorted({*before, *since}))
    for source, path in since.items():
        log.write("written since", path, source=source)


def state_of(root: PurePath, source: str) -> str:
    """Return size and time of a source as it is now; empty if it is gone."""
    now = _look_at(root, unquote(source))
    return f"{now.st_size}.{now.st_mtime_ns}" if now else ""


def _look_at(root: PurePath, name: bytes) -> os.stat_result | None:
    with suppress(OSError):
        return os.stat(os.path.join(os.fsencode(root), name))  # noqa: PTH116, PTH118  a hostile name is bytes
    return None


def describe_written(paths: Sequence[str]) -> str:
    """Return what it means that these were written after they were taken; empty if none was."""
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if paths[1:] else ""
    return (
        f"Written after it was taken 採取後に変更: {paths[0]}{more}; the store has an older copy, and carrying the "
        "incident on takes it again 保全先は古い内容、インシデントの続行で再採取"
    )


def is_of_root(file: StoredFile) -> bool:
    """Return whether a file was copied from the root: what is in a container, or out of the root, was not."""
    return bool(file.source) and not unquote(file.source).startswith(b"/") and not file.note.startswith(IN_CONTAINER)


def _is_older(root: PurePath, file: StoredFile) -> bool:
    if not (now := _look_at(root, unquote(file.source))):
        return False
    return bool(unsteady(file.stored, file.note)) or not steady(file, now.st_size, now.st_mtime_ns)
