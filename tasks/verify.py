"""§6: ask the store, object by object, for its own digest. A listing proves nothing."""

from collections.abc import Sequence

from tasks.case import Case
from tasks.custody.evidence import Seal
from tasks.custody.objects import all_objects
from tasks.custody.receipt import Receipts, unproven
from tasks.offload import UNPROVEN, Sent, at_once, prove, transient
from tasks.seal import read_manifest
from tasks.signing import read_signature
from tasks.step import step


@step("§6 check: the store's own digests agree", retries=2, delay=2.0, retry_if=transient)
def verify(case: Case, seals: Sequence[Seal], sent: Sent) -> Receipts:
    """A receipt for every object that the manifests name, looked at anew in every run (runbook §6)."""
    del sent
    expected = [
        item
        for sealed in seals
        for item in all_objects(
            read_manifest(case, sealed.volume), case.incident.snapshot, read_signature(case.folder(sealed.volume))
        )
    ]
    receipts = Receipts(tuple(at_once(lambda item: prove(case, item, case.retention), expected)))
    case.journal(UNPROVEN, list[str], [receipt.key for receipt in unproven(receipts.objects)])
    return receipts
