"""Find the classes of cached results under the module names of version 0.1.

Prefect's JSON results name the class of what they hold, and one that is not found comes back as a bare dict. So an
incident that 0.1 opened finds its finished steps here; remove this with the last incident of that version.
"""

import sys
from types import ModuleType
from typing import Final

from tasks.custody import evidence
from tasks.custody.containment import cordon, receipt
from tasks.custody.evidence import acquisition
from tasks.custody.models import inspection
from tasks.custody.store import latest, receipts, sent

_MODULES: Final[dict[str, ModuleType]] = {
    "tasks.custody.inspection": inspection,
    "tasks.custody.receipt": receipt,
    "tasks.custody.turn": latest,
    "tasks.offload": sent,
}
_MOVED: Final = (
    (evidence, acquisition, ("Evidence", "Seal")),
    (receipt, cordon, ("Challenge", "Cordon")),
    (receipt, receipts, ("ObjectReceipt", "Receipts")),
)


def know_former_names() -> None:
    """Register the former module names, so that importing one returns today's module."""
    for name, module in _MODULES.items():
        sys.modules.setdefault(name, module)
    for former, module, classes in _MOVED:
        for name in classes:
            setattr(former, name, getattr(module, name))
