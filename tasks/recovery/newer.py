"""§7: find the code and models that are newer than the frozen API's start: the one that is started may read them."""

from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.receipt import NOT_AS_BEFORE, Recovery
from tasks.evidence.model_served import api_began, tell_change
from tasks.recovery.served_model import NAME_IT, SealedModels
from tasks.runtime.context import RunContext

_CODE: Final = frozenset({".py", ".so"})


def find_newer(context: RunContext, models: SealedModels) -> dict[str, str]:
    """Return the sealed code and models that were changed after the frozen API had started, with when, by path.

    What Python has compiled of a file stands for it.
    """
    root, files = context.workload.root, models.files
    if not (began := api_began(context)):
        return {}
    names = {name for name in files if PurePath(name).suffix in _CODE} | {*models.models_of(files)}
    changes = {name: change for name in sorted(names) if (change := tell_change(root, name, began))}
    compiled = {
        str(each.relative_to(root)): change
        for name, change in changes.items()
        for each in (root / name).parent.glob(f"__pycache__/{escape(PurePath(name).stem)}.*.pyc")
    }
    return changes | compiled


def with_newer(recovery: Recovery, newer: Sequence[str], models: SealedModels) -> Recovery:
    """Add which newer file the API has read, unless something says already that it may serve another model.

    A person who has named the model has answered that.
    """
    if not newer or models.named or any(each.startswith(NOT_AS_BEFORE) for each in recovery.unproven):
        return recovery
    doubt = f"{NOT_AS_BEFORE}: it reads what is newer 新しいファイル: {newer[0]} {NAME_IT}"
    return replace(recovery, unproven=(*recovery.unproven, doubt))
