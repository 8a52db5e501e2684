"""Define the results of an offload, a verification or a promotion, object by object (runbook §5, §6)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tasks.custody.evidence.keys import SNAPSHOTS
from tasks.custody.step_result import StepResult

NOT_THERE: Final = "it is not in the store"
"""Reason of an object that the store does not have."""


@dataclass(frozen=True, slots=True)
class ObjectReceipt:
    """One object, and what the store says about it. `proven` only if the store's own digest agrees.

    `lost` was never sent: for lack of room it was hashed in place, and has changed or vanished since. `read` was proven
    by reading its bytes back, on request or because the store has no comparable digest. `exclusive` is False if the
    store cannot guarantee that nothing was overwritten: it has no conditional write. `beside` is the key at which the
    sealed content is proven, if other content lies at its own: that one is not `proven`.
    """

    key: str
    sha256: str
    size: int
    proven: bool
    reason: str = ""
    lost: bool = False
    read: bool = False
    exclusive: bool = True
    beside: str = ""


@dataclass(frozen=True, repr=False)
class Receipts(StepResult):
    """Receipts of many objects: of an offload, a verification or a promotion."""

    objects: tuple[ObjectReceipt, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the store vouches for every object."""
        return not unproven(self.objects)

    @property
    def summary(self) -> str:
        """Number and size of proven objects, and the first that is not proven or lost."""
        size = sum(receipt.size for receipt in self.objects if receipt.proven)
        bad, gone, moved = unproven(self.objects), lost(self.objects), displaced_objects(self.objects)
        words = f"{len(self.objects) - len(bad) - len(gone)} objects, {size} bytes"
        if moved:
            words += f"; {len(moved)} beside their keys: {moved[0].key}: {moved[0].reason}"
        if bad:
            words += f"; {len(bad)} not: {bad[0].key}: {bad[0].reason}"
        if gone:
            words += f"; {len(gone)} lost: {gone[0].key}: {gone[0].reason}"
        return words


def unproven(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Return the objects that the store did not vouch for anywhere, without those that are lost."""
    return [receipt for receipt in receipts if not (receipt.proven or receipt.lost or receipt.beside)]


def displaced_objects(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Return the objects at whose keys other content lies, and whose own is proven beside them."""
    return [receipt for receipt in receipts if receipt.beside]


def lost(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Return the objects whose sealed content no longer exists anywhere."""
    return [receipt for receipt in receipts if receipt.lost]


def lost_once(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Return the lost objects without their copies in snapshots, which are lost with them."""
    return [receipt for receipt in lost(receipts) if not receipt.key.startswith(SNAPSHOTS)]
