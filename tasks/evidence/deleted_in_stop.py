"""§8: name what was deleted after the freeze before its last state was taken: the workload may do so as it ends."""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from blocks.workload import Workload
from tasks.collectors.code import globs_of
from tasks.containment.files_before_stop import NOT_KNOWN, select_deleted
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import unquote
from tasks.custody.evidence.pattern import matches_any
from tasks.custody.visible import join_some, visible
from tasks.evidence.written_since import sealed_whole
from tasks.runtime.context import RunContext

_SHOWN: Final = 5
_LOST: Final = "there at the freeze, deleted before it was taken as it was last 凍結後、最後の状態の採取前に削除"


def find_deleted(context: RunContext, evidence: Iterable[Evidence]) -> tuple[str, str]:
    """Return that files which the block names are lost so, and that others are, each in a sentence; empty if none is.

    What may be missing is no loss, nor is what an earlier run has sealed as it last was: somebody may rotate a log
    between two runs. Once an API is back, it may delete what it likes.
    """
    block, state = context.workload, context.state
    if not (before := state.files.read()) or state.recovered.read() or state.recovered_containers.read():
        return "", ""
    try:
        deleted = select_deleted(block, before, {file.source for item in evidence for file in item.files})
        deleted = sorted({*deleted} - sealed_whole(context)) if deleted else []
    except (OSError, ValueError) as error:
        return f"{NOT_KNOWN}: {error}", ""
    lost = [name for name in deleted if _is_needed(block, os.fsdecode(unquote(name)))]
    others = [name for name in deleted if name not in lost]
    return _describe(lost, "; policy kill lets it delete nothing 次回は policy=kill"), _describe(others, "")


def _is_needed(block: Workload, name: str) -> bool:
    """Return whether a pattern names a file, or else a folder of the block has it, and that may not be missing."""
    field = next((field for field, patterns in globs_of(block).items() if matches_any(name, patterns)), "")
    return bool(field) and field not in block.may_be_missing


def _describe(names: Sequence[str], cure: str) -> str:
    shown = join_some([visible(each) for each in names], _SHOWN)
    return f"{_LOST}: {shown}{cure}" if names else ""
