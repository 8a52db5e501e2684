"""§4: find results that were written after they were taken: the next run of the incident takes them again."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath

from blocks.workload import Workload
from tasks.custody.evidence.acquisition import Evidence, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import unquote
from tasks.custody.evidence.pattern import ends_with
from tasks.custody.models.inspection import is_named_as_model
from tasks.evidence.left_alone import steady
from tasks.runtime.context import RunContext


def note_written(context: RunContext, evidence: Sequence[Evidence]) -> None:
    """Keep which results are no longer as they were taken, for this run's verdict and for the next run to collect.

    Not once the API is back, which may write what it likes.
    """
    if context.run.dry_run or context.state.recovered.read() or context.state.recovered_containers.read():
        return
    last = {file.source: file for item in evidence for file in item.files if _is_result(file, context.workload)}
    since = {source: file.path for source, file in last.items() if _is_older(context.directory.root, file)}
    context.written_since = tuple(sorted(since.values()))
    before = context.state.written_since.read()
    if not since.keys() <= {*before}:
        context.state.written_since.write(sorted({*before, *since}))
    for source, path in since.items():
        context.log.write("written since", path, source=source)


def state_of(root: PurePath, source: str) -> str:
    """Return size and time of a source as it is now; empty if it is gone."""
    now = _look_at(root, source)
    return f"{now.st_size}.{now.st_mtime_ns}" if now else ""


def _look_at(root: PurePath, source: str) -> os.stat_result | None:
    with suppress(OSError):
        return os.stat(os.path.join(os.fsencode(root), unquote(source)))  # noqa: PTH116, PTH118  a hostile name is bytes
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


def _is_result(file: StoredFile, block: Workload) -> bool:
    """Return whether a file is a result of the root: those in containers are not."""
    own = bool(file.source) and not unquote(file.source).startswith(b"/")
    return own and (is_named_as_model(file.stored) or ends_with(file.path, (*block.artifacts, *block.models)))


def _is_older(root: PurePath, file: StoredFile) -> bool:
    if not (now := _look_at(root, file.source)):
        return False
    return bool(unsteady(file.stored, file.note)) or not steady(file, now.st_size, now.st_mtime_ns)
