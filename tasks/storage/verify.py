"""§6: verify each object by the store's own digest. A listing proves nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tasks.custody.evidence.acquisition import Seal
from tasks.custody.evidence.keys import volume_folder
from tasks.custody.store.manifest import digest
from tasks.custody.store.objects import Expected, all_objects, claim_object, one_object
from tasks.custody.store.receipts import NOT_THERE, ObjectReceipt, Receipts, unproven
from tasks.custody.store.sent import Sent
from tasks.evidence.beside import create_or_beside
from tasks.evidence.seal import read_manifest
from tasks.evidence.signing import read_signature
from tasks.evidence.uncopied_files import as_sealed
from tasks.incident.layout import RECORD, is_of_record
from tasks.runtime.context import RunContext
from tasks.runtime.progress import Progress, show_progress
from tasks.runtime.step import step
from tasks.runtime.wait_for_store import waits_for_store
from tasks.storage.verify_object import prove
from tasks.system.parallel import QUESTIONS, THREADS, side_by_side


@step("verify", "check: the store's own digests agree", section="§6", ja="検証", retries=2, retry_delay_seconds=2.0)
@waits_for_store
def verify(context: RunContext, seals: Sequence[Seal], sent: Sent, read_back: bool = False) -> Receipts:  # noqa: FBT001, FBT002
    """Return a receipt for the claim and each object that the manifests name, asked again in every run (runbook §6)."""
    del sent
    store, objects = context.store, list[ObjectReceipt]()

    def prove_item(item: Expected) -> ObjectReceipt:
        """Prove one object. If a file that was hashed in place is not in the store, say what is left of it."""
        context.cancelled.check()
        receipt = prove(store, context.incident, item, store.retention, deep=read_back)
        progress.add(1, item.size)
        gone = item.file.in_place and receipt.reason == NOT_THERE
        sent = gone and store.evidence.head(item.origin or item.key)
        if gone and not sent and not as_sealed(context.directory.root, item.file):
            return replace(receipt, lost=True, reason="there was no room for a copy, and it has changed or gone since")
        return receipt

    for sealed in seals:
        manifest = read_manifest(context.directory, sealed.volume)
        signature = read_signature(context.directory.evidence_dir(sealed.volume))
        expected = all_objects(manifest, context.incident.snapshot, signature)
        progress = Progress(len(expected), sum(item.size for item in expected))
        with show_progress("verify", context.incident.id, progress):
            threads = QUESTIONS if store.evidence.promises().digests and not read_back else THREADS
            receipts = list(side_by_side(prove_item, expected, threads))
        summary = f"{sum(each.proven for each in receipts)} of {len(receipts)} objects proven"
        if read := sum(each.read for each in receipts):
            summary += f", {read} of them read back"
        context.log.write("verified", volume_folder(sealed.volume), digest=sealed.manifest_sha256, result=summary)
        objects += receipts
    if seals:
        claimed = claim_object(context.incident, store.evidence.place)
        objects.append(prove(store, context.incident, claimed, store.retention, deep=read_back))
    objects += _displaced_records(context)
    context.state.unproven.write([receipt.key for receipt in unproven(objects)])
    return Receipts(tuple(objects))


def _displaced_records(context: RunContext) -> Iterator[ObjectReceipt]:
    """Prove earlier records once in a run; send files beside where other content lies, and yield receipts of those."""
    home, store = context.directory.path / RECORD, context.store
    for path in sorted(home.glob("[!.]*/[!.]*")):
        if is_of_record(path, context.run.number):
            continue
        key = f"incidents/{context.incident.id}/{RECORD}/{path.relative_to(home).as_posix()}"
        item = one_object(key, path.stat().st_size, digest(path))
        receipt = prove(store, context.incident, item, store.retention)
        if not (receipt.proven or receipt.beside or receipt.reason == NOT_THERE):
            create_or_beside(store, context.incident.id, item, path)
            receipt = prove(store, context.incident, item, store.retention)
        context.proven_records |= {key} if receipt.proven or receipt.beside else frozenset()
        if receipt.beside or not (receipt.proven or receipt.reason == NOT_THERE):
            yield receipt
