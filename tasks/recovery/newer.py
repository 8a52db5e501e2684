"""§7: find files that are newer than the frozen API's start, or were changed since the stop: they may be read now."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final, TypeAlias

from blocks.workload import Workload
from tasks.acquisition.remainder import MOST_ENTRIES, read_other_list
from tasks.collectors.code import globs_of
from tasks.collectors.tree import select_written
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import NOT_AS_BEFORE, Recovery
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.evidence.keys import NOT_TAKEN
from tasks.custody.evidence.pattern import matches_any, patterns_of
from tasks.custody.incident.log import CustodyLog
from tasks.custody.models.inspection import is_named_as_model
from tasks.custody.visible import join_some, visible
from tasks.evidence.model_served import Began, api_began, api_looks, find_change, tell_change
from tasks.evidence.written_since import is_of_root
from tasks.host.host import Host
from tasks.host.process.process import family
from tasks.recovery.inside_files import find_names
from tasks.recovery.opened import Opened, watch_reads
from tasks.recovery.process_api import is_no_api
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_before
from tasks.runtime.state import IncidentState

Spans: TypeAlias = Sequence[tuple[datetime, datetime]]
_CODE: Final = frozenset({".py", ".pyc", ".so"})
_OUTPUT: Final = re.compile(r".*(\.(log|out|err)([.-]\d+)?|\.(pid|db|sqlite3?)(-wal|-shm|-journal)?)", re.DOTALL)
_SHOWN: Final = 3
_ANSWER: Final = "(if you know that this is as it was or as you want it, name the model; 確認できたら model で指定)"


def find_touched(context: RunContext, models: SealedModels) -> dict[str, str]:
    """Return what was changed while all stood, or is gone, by path: of what was taken or left and no pattern names.

    It counts whether or not the API is seen to read it. What is gone counts until a recovery has let in what may remove
    it, then only if that was told before.
    """
    root, spans, reported = context.workload.root, find_spans(context.log), {*context.state.newer.read()}
    if not spans or not (api_began(context) or _has_seen_api(context.state)):
        return {}
    lists = (path for home in context.directory.folders for path in home.glob(f"evidence*/{NOT_TAKEN}"))
    not_taken = {os.fsdecode(each.name) for path in lists for each in read_other_list(path)}
    sealed = {file.path for file in models.files.values() if is_of_root(file)}
    found, may_go = dict[str, str](), context.state.has_let_in
    for name in sorted(sealed | not_taken):
        gone = f"{visible(name)} is gone since it was taken 採取後に消失"
        is_gone = name in sealed and not os.path.lexists(root / name) and (gone in reported or not may_go)
        change = gone if is_gone else _tell_touch(root, name, spans)
        if change and not (_is_named(context.workload, name) or _is_output(context.workload, name)):
            found[name] = change
    return found


def find_newer(
    context: RunContext, models: SealedModels, seals: Iterable[Seal], outside: Collection[str] = ()
) -> dict[str, str]:
    """Return what was changed after the frozen API had started, by path: the next one may read it as something else.

    `outside` are files outside the root that count too, by their full paths, and folders, which end in a slash.

    What the block's patterns name, or the API writes, counts only if it is code or a model, or was changed while all
    stood. What Python has compiled of a file stands for it. A folder of packages or out of the root, whose name ends in
    a slash, is told if it has more files than are looked at.
    """
    root, files, spans, began = context.workload.root, models.files, find_spans(context.log), api_began(context)
    if not began and not (spans and _has_seen_api(context.state)):
        return {}
    since = min([*(at for at, _ in spans), *([began.at] if began else [])])
    names, unseen = find_names(context.workload, since, {each for each in outside if each.endswith("/")})
    looks = api_looks(context.directory, context.log, context.state, [each.volume for each in seals])
    able, written, changes = models.models_of(files), _find_written(looks, context.directory.root), dict[str, str]()
    for name in sorted({*names, *files, *outside}):
        if change := _tell_touch(root, name, spans):
            changes[name] = change
        elif began and (change := _tell_newer(root, name, began)) and (root / name).is_file():
            is_own = name not in able and (name in written or _is_output(context.workload, name))
            changes |= {} if is_own else {name: visible(change)}
    more = {
        name: f"{visible(name)} has more than {MOST_ENTRIES:,} files, and the rest was not looked at" for name in unseen
    }
    return changes | _find_compiled(root, changes) | more


def _find_compiled(root: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """Return what Python has compiled of changed files, each with the change of its source."""
    folders = {PurePath(name).parent for name in changes if name.endswith(".py")}
    compiled = [(each, path.name) for each in folders for path in (root / each).glob("__pycache__/*.pyc")]
    sources = {str(at / "__pycache__" / name): str(at / f"{name.partition('.')[0]}.py") for at, name in compiled}
    return {name: changes[source] for name, source in sources.items() if source in changes}


def watch_newer(
    host: Host, block: Workload, newer: Iterable[str], api: Callable[[], Identity]
) -> AbstractContextManager[Opened]:
    """Watch which of the newer files the start of the API opens: whoever has come since may have done it for the API.

    Not so who stood before and still does, and the trainings and workers that live, unless they are of the API's own.
    """
    before = host.snapshot()

    def find_others() -> set[int]:
        now = host.snapshot()
        stood = {pid for pid, each in now.items() if pid in before and before[pid].identity == each.identity}
        others = {each.identity for each in now.values() if is_no_api(each, block)}
        return (stood | family(now, others)) - family(now, {api()})

    return watch_reads({name: block.root / name for name in newer}, find_others)


def pick_read(root: Path, newer: Mapping[str, str], opened: Collection[str], since: datetime) -> dict[str, str]:
    """Return those of the newer files that the API has opened, without what it has written itself `since` its start.

    A folder that was not looked through counts in any case.
    """
    own = {name for name in opened if not _is_code(name) and find_change(str(root), name, since, held=True)}
    unseen = {name for name in newer if name.endswith("/")}
    return {name: newer[name] for name in {*opened} - own | unseen}


def find_spans(log: CustodyLog) -> Spans:
    """Return from when to when all stood since the freeze that counts, the last time until now if it still does."""
    spans, since = list[tuple[datetime, datetime]](), None
    for each in log.entries():
        at, action = datetime.fromisoformat(each["utc"]), each["action"]
        if action in {"thawed", "recovery ended"}:
            spans, since = [], None
        elif action == "uncordoned" and since:
            spans, since = [*spans, (since, at)], None
        elif action == "contained again" or (action == "step done" and each.get("step_id") == "stop"):
            since = since or at
    return [*spans, (since, datetime.now(UTC))] if since else spans


def _is_code(name: str) -> bool:
    return PurePath(name).suffix in _CODE or is_named_as_model(name)


def _is_named(block: Workload, name: str) -> bool:
    return matches_any(name, patterns_of(globs_of(block)))


def _is_output(block: Workload, name: str) -> bool:
    """Return whether a workload writes a file: the block names it, or it is a log, a pid, a database, the lock.

    Code and models are none.
    """
    is_own = bool(_OUTPUT.fullmatch(name)) or block.root / name == block.lock
    return not _is_code(name) and (is_own or _is_named(block, name))


def _has_seen_api(state: IncidentState) -> bool:
    return any(each.role == "api" for each in frozen_before(state))


def _tell_touch(root: Path, name: str, spans: Spans) -> str:
    for since, until in spans:
        at = None if name.startswith("/") else find_change(str(root), name, since)
        if at and at <= until and (root / name).is_file():
            return f"{visible(name)} was changed at {at:%H:%M:%S}Z, after the stop 停止後に変更"
    return ""


def _tell_newer(root: Path, name: str, began: Began) -> str:
    if not name.startswith("/"):
        return tell_change(root, name, began)
    change = tell_change(Path("/"), name.removeprefix("/"), began)
    return change and f"/{change}"


def _find_written(looks: Iterable[list[dict[str, Any]]], root: PurePath) -> set[str]:
    """Return what the frozen API had open to be written, without code and models."""
    paths = (each["to"] for look in looks for row in look for each in select_written(row.get("open_files")))
    names = {path.removeprefix(f"{root}/") for path in paths}
    return {name for name in names if not _is_code(name)}


def with_newer(recovery: Recovery, newer: Sequence[str], models: SealedModels) -> Recovery:
    """Add which newer files the API has read, or may read, but for those that another such doubt names already.

    A person who has named the model has answered that.
    """
    doubts = [each for each in recovery.unproven if each.startswith(NOT_AS_BEFORE)]
    newer = [each for each in newer if not any(each.partition(" was changed at ")[0] in doubt for doubt in doubts)]
    if not newer or models.named:
        return recovery
    doubt = f"{NOT_AS_BEFORE}: what it reads is newer 新しいファイル: {join_some(newer, _SHOWN, '; ')} {_ANSWER}"
    return replace(recovery, unproven=(*recovery.unproven, doubt))
