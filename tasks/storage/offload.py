"""§5: claim the incident in the store, send the sealed files, fill the snapshot."""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tasks.custody.errors import Conflict, PermanentStoreError, StoreError
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.evidence.keys import LATEST, claim_key, snapshot_folder
from tasks.custody.fleet.host_order import run_name
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.news import News
from tasks.custody.store.objects import closing_objects, evidence_first, evidence_objects, snapshot_objects
from tasks.custody.store.sent import Sent
from tasks.evidence.claim import UNSHARE, claim, name_sharing, other_workloads
from tasks.evidence.seal import read_manifest
from tasks.evidence.signing import read_signature
from tasks.people.announce import announce
from tasks.runtime.context import RunContext
from tasks.runtime.ordered import turn_to_send
from tasks.runtime.progress import Progress, show_progress
from tasks.runtime.step import step
from tasks.runtime.store_access import StoreAccess
from tasks.runtime.wait_for_store import waits_for_store
from tasks.storage.upload_ledger import Ledger, elsewhere
from tasks.storage.uploader import Delivery

logger = logging.getLogger(__name__)


@step("claim_store", "claim the incident in the store", section="§5", ja="保全先の確保", retries=1)
def claim_store(context: RunContext) -> Sent:
    """Create the incident's first object, its claim, so that an unusable store is known before the seal."""
    try:
        claim(context.store, context.incident, context.state)
    except Conflict as refused:
        logger.error("%s", refused)  # noqa: TRY400  a person has to know it now
        if context.run.order is None:
            news = News("IdTaken", f"{context.incident.id}: {refused}")
            announce(context.run.id, run_name(context.incident.workload), news)
        raise
    store = context.store.evidence
    warnings = [f"{store.place}: {each}" for each in store.promises().notes]
    if warnings:
        context.log.write("store tried", store.place, result="; ".join(store.promises().notes))
    if untrusted := context.store.why_not_trusted(context.workload):
        if context.run.dry_run:
            context.log.write("would", store.place, act="not prove what is sent to", why=untrusted)
        else:
            context.log.write("store not trusted", store.place, result=untrusted)
        logger.error("%s", untrusted)
    if own := context.store.note_own_account(context.workload):
        warnings.append(own)
        logger.warning("%s", own)
    if shared := _find_sharing(context.store, context.incident.workload):
        warnings.append(shared)
        if context.run.dry_run:
            context.log.write("would", f"{store.place}/{LATEST}", act="name", why=shared)
    if problem := store.unfit():
        warnings.append(f"not retained as asked: {problem}")
        context.log.write("not retained", store.place, result=problem)
        logger.warning("What is stored can be deleted by whoever may delete there: %s", problem)
    return Sent(1, 0, store.place, warnings=tuple(warnings))


def _find_sharing(access: StoreAccess, workload: str) -> str:
    """Return whose incidents lie in a folder beside this workload's; empty if none, or if nothing goes to latest/."""
    others = tuple[str, ...]()
    if access.latest_policy != "never" and access.is_folder:
        with suppress(StoreError):
            others = other_workloads(access.evidence, workload)
    return f"{name_sharing(others, access.evidence.place)}. {UNSHARE}" if others else ""


def _by_seals(_: Any, parameters: Mapping[str, Any]) -> str:
    """The store, retention, sealed manifests, and the run if the last verification found objects missing.

    The same objects may be missing once more, after they were sent again.
    """
    context, seals = parameters["context"], parameters["seals"]
    doubted = f"{context.run.number}:{','.join(missing)}" if (missing := context.state.unproven.read()) else ""
    lock = f"{retention}:" if (retention := context.store.retention) else ""
    return f"{context.store.identity}:{lock}{','.join(sealed.manifest_sha256 for sealed in seals)}:{doubted}"


@step("offload", "offload", section="§5", ja="退避", retries=3, retry_delay_seconds=2.0, cache_key_fn=_by_seals)
@waits_for_store
def offload(context: RunContext, seals: Sequence[Seal], intact: Seal) -> Sent:
    """Send the sealed, intact files. Uploads each byte once; copies the snapshot inside the store (runbook §5)."""
    del intact
    claim(context.store, context.incident, context.state)
    ledger = Ledger(context.directory.path, context.store.identity)
    with turn_to_send(context.run.order, context.cancelled):
        volumes = [_offload(context, ledger, sealed) for sealed in seals]
    _end_unfinished(context.store, context.incident, len(seals))
    if context.store.retention:  # the present one, for what earlier runs of the incident wrote about latest/
        for key, sha256 in context.state.turned.read().items():
            with suppress(Conflict):  # the audit names it
                context.store.evidence.ensure_present(key, sha256)
    return Sent(
        objects=sum(each.objects for each in volumes),
        size=sum(each.size for each in volumes),
        place=context.store.evidence.place,
        sent=sum(each.sent for each in volumes),
        copied=sum(each.copied for each in volumes),
    )


def _offload(context: RunContext, ledger: Ledger, sealed: Seal) -> Sent:
    """Send one evidence folder: its files, evidence first, the snapshot copied from them, and the manifest last."""
    store, folder = context.store.evidence, context.directory.evidence_dir(sealed.volume)
    manifest = read_manifest(context.directory, sealed.volume)
    originals, copies = evidence_objects(manifest), snapshot_objects(manifest, context.incident.snapshot)
    closing = closing_objects(manifest, read_signature(folder))
    every = (*originals, *copies, *closing)
    progress = Progress(len(every), sum(item.size for item in every))
    uploaded = (item.sha256 for item in originals if item.size)
    others = elsewhere(context.workload, context.directory.path, context.store.identity, uploaded)
    listed = _list_sizes(context.store, {*context.state.unproven.read()}, ledger, {item.folder for item in every})
    delivery = Delivery(context, ledger, sealed.volume, others, progress, listed)
    with show_progress("offload", context.incident.id, progress):
        block = context.workload
        first, along = evidence_first(manifest, (*block.logs, *block.artifacts, *block.models))
        lost = delivery.deliver(first, copies) | delivery.deliver(along, copies)
        before = context.state.lost_in_place.read()
        if sources := {file.source for file in manifest.files if file.stored in lost} - {*before}:
            context.state.lost_in_place.write(sorted({*before, *sources}))  # so that the next run collects them again
        for item in closing:
            delivery.close(item, folder / item.stored_name)
    these = [*(item for item in (*originals, *copies) if item.stored_name not in lost), *closing]
    context.log.write(
        "offloaded", folder.name, digest=sealed.manifest_sha256, objects=len(these), result=f"to {store.place}"
    )
    size = sum(item.size for item in these if not item.origin)
    return Sent(len(these), size, store.place, progress.ways["sent"], progress.ways["copied"])


def _list_sizes(
    store: StoreAccess, doubted: Collection[str], ledger: Ledger, folders: Collection[str]
) -> dict[str, int]:
    """Return sizes by key of the objects in these folders of the store, without doubted ones.

    Empty if retention is asked for, because a listing does not tell it, or if no earlier run has sent anything.
    """
    if store.retention or not any(key.startswith(tuple(folders)) for key in ledger.known):
        return {}
    try:
        found = [each for folder in folders for each in store.evidence.list(folder)]
    except PermanentStoreError as error:
        logger.warning("Each object is asked for by itself: %s", error)
        return {}
    return {each.key: each.size for each in found if each.key not in doubted}


def _end_unfinished(store: StoreAccess, incident: Incident, volumes: int) -> None:
    """Abort unfinished multipart uploads of earlier runs, because they take space in the store. Deletes no object."""
    snapshots = (snapshot_folder(incident.snapshot, volume) for volume in range(1, volumes + 1))
    prefixes = [claim_key(incident.id).removesuffix("claim.json"), *snapshots]
    try:
        ended = [key for prefix in prefixes for key in store.evidence.end_unfinished(prefix)]
    except StoreError as error:
        logger.warning("Unfinished uploads were left as they are: %s", error)
        return
    if ended:
        store.log.write("ended unfinished uploads", store.evidence.place, uploads=len(ended), first=ended[0])
