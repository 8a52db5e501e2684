"""§8: name what was deleted after the freeze before anybody had taken it: the workload may do so as it ends."""

from collections.abc import Iterable, Sequence
from typing import Final

from blocks.workload import Workload
from tasks.containment.files_before_stop import select_deleted
from tasks.custody.containment.receipt import FileBefore
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.visible import visible
from tasks.runtime.state import IncidentState

_SHOWN: Final = 5


def find_deleted(block: Workload, state: IncidentState, evidence: Iterable[Evidence]) -> tuple[str, str]:
    """Return that files which the block names are lost so, and that others are, each in a sentence; empty if none is.

    What may be missing is no loss. Once an API is back, it may delete what it likes.
    """
    if not (before := state.files.read()) or state.recovered.read() or state.recovered_containers.read():
        return "", ""
    try:
        deleted = select_deleted(block, before, {file.source for item in evidence for file in item.files})
    except OSError as error:
        return f"what was deleted during the stop is not known 停止中の削除は不明: {error}", ""
    lost = [each for each in deleted if each.field and each.field not in block.may_be_missing]
    others = [each for each in deleted if each not in lost]
    return _describe(lost, "; policy kill lets it delete nothing 次回は policy=kill"), _describe(others, "")


def _describe(files: Sequence[FileBefore], cure: str) -> str:
    if not files:
        return ""
    shown = ", ".join(visible(each.name) for each in files[:_SHOWN])
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"there at the freeze, deleted before it was taken 凍結後、採取前に削除: {shown}{more}{cure}"
