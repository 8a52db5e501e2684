"""§5: claim the incident in the store, send the sealed files, fill the snapshot."""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from tasks.case import CLAIMED, LOST_IN_PLACE, Case
from tasks.custody.errors import Conflict, StoreError, TransientStoreError
from tasks.custody.evidence import Seal, StoredFile
from tasks.custody.keys import claim_key, promotion_key
from tasks.custody.manifest import canonical, digest_bytes
from tasks.custody.noun import Noun
from tasks.custody.objects import Expected, closing_objects, evidence_objects, snapshot_objects
from tasks.custody.receipt import ObjectReceipt
from tasks.custody.retention import NOTHING, Retention
from tasks.in_place import as_sealed, opened
from tasks.seal import read_manifest
from tasks.signing import read_signature
from tasks.step import step

logger = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")

THREADS: Final = 16
UNPROVEN: Final = "unproven.json"
NOT_THERE: Final = "it is not in the store"


@dataclass(frozen=True, repr=False)
class Sent(Noun):
    """What was offered to the store and taken; whether it is really there, verify says."""

    objects: int
    size: int
    place: str

    @property
    def told(self) -> str:
        """In a few words."""
        return f"{self.objects} objects, {self.size} bytes to {self.place}"


def transient(error: object) -> bool:
    """Trying again helps only where the store says so, or where it is not the store that failed."""
    return isinstance(error, TransientStoreError) or not isinstance(error, StoreError)


def at_once(act: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Do it for many objects in parallel; the first error ends it."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(act, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _claim(case: Case) -> None:
    incident = case.incident
    claim = canonical(
        {
            "incident": incident.id,
            "workload": incident.workload,
            "host": incident.host,
            "boot": incident.boot,
            "opened_at": incident.opened_at.isoformat(),
        }
    )
    try:
        case.store.create(claim_key(incident.id), claim, digest_bytes(claim))
    except Conflict as conflict:
        case.journal(CLAIMED, str, str(conflict))
        raise


@step("§5 claim the incident in the store")
def claim_store(case: Case) -> Sent:
    """Write the first object, which says whose incident this is: a bad store is known now, while we collect."""
    _claim(case)
    if told := case.store.unfit():
        case.notes.append(f"not retained as asked: {told}")
        case.log.write("not retained", case.store.place, result=told)
        logger.warning("What is stored can be deleted by whoever may delete there: %s", told)
    return Sent(1, 0, case.store.place)


def _by_seals(case: Case, seals: Sequence[Seal], intact: Seal) -> str:
    """What is sent, where to, how long it is kept, and what the last look found missing there, which is sent again."""
    del intact
    missing = case.journal(UNPROVEN, list[str]) or []
    kept = f"{retention}:" if (retention := case.retention) else ""
    return f"{case.place}:{kept}{','.join(sealed.manifest_sha256 for sealed in seals)}:{','.join(missing)}"


@step("§5 offload", key=_by_seals, retries=3, delay=2.0, retry_if=transient)
def offload(case: Case, seals: Sequence[Seal], intact: Seal) -> Sent:
    """Send what is sealed and intact. Each byte crosses once, the snapshot is copied inside the store (runbook §5)."""
    del intact
    _claim(case)
    sent: list[Expected] = []
    for sealed in seals:
        manifest = read_manifest(case, sealed.volume)
        folder = case.folder(sealed.volume)
        files = {file.stored: file for file in manifest.files}

        def send(item: Expected, volume: int = sealed.volume, files: dict[str, StoredFile] = files) -> Expected | None:
            return item if _send(case, volume, files[item.stored], item) else None

        def copy(item: Expected) -> None:
            case.store.copy(item.origin, item.key, item.sha256)

        wanted = list(evidence_objects(manifest))
        done = at_once(send, wanted)
        there = [item for item in done if item]
        _note_lost(case, [files[item.stored].source for item, made in zip(wanted, done, strict=True) if not made])
        origins = {item.key for item in there}
        copies = [item for item in snapshot_objects(manifest, case.incident.snapshot) if item.origin in origins]
        at_once(copy, copies)
        closing = closing_objects(manifest, read_signature(folder))
        for item in closing:
            case.store.create(item.key, folder / item.stored, item.sha256)
        these = [*there, *copies, *closing]
        case.log.write(
            "offloaded", folder.name, digest=sealed.manifest_sha256, objects=len(these), result=f"to {case.store.place}"
        )
        sent += these
    _retain_promotions(case, len(seals))
    return Sent(len(sent), sum(item.size for item in sent if not item.origin), case.store.place)


def _retain_promotions(case: Case, volumes: int) -> None:
    """An incident promotes once; the note that an earlier run left of it gets the retention that is asked for now."""
    if not case.retention:
        return
    for key in (promotion_key(case.incident.id, number) for number in range(1, volumes + 1)):
        there = case.store.look(key)
        if there and digest_bytes(note := case.store.read(key)) == there.sha256:
            case.store.create(key, note, there.sha256)


def _send(case: Case, volume: int, file: StoredFile, item: Expected) -> bool:
    """Send one file; False for one that was hashed in place, is no longer as sealed, and so is lost."""
    if not file.in_place:
        case.store.create(item.key, case.path_of(volume, file), item.sha256)
        return True
    try:
        with opened(case, file) as path:
            case.store.create(item.key, path, item.sha256)
    except (OSError, StoreError) as error:
        if as_sealed(case, file):
            raise
        case.log.write("lost", item.stored, reason=str(error), sealed=item.sha256)
        return prove(case, item).proven  # an earlier run may have sent it while it was whole
    return True


def _note_lost(case: Case, sources: Sequence[str]) -> None:
    """What can no longer be sent as it was sealed is collected anew by the next run, as it is then."""
    known = case.journal(LOST_IN_PLACE, list[str]) or []
    if not set(sources) <= set(known):
        case.journal(LOST_IN_PLACE, list[str], sorted({*known, *sources}))


def prove(case: Case, item: Expected, retention: Retention = NOTHING) -> ObjectReceipt:
    """Ask the store for its own digest of one object, and whether it is retained as asked."""
    there = case.store.look(item.key)
    if there is None:
        return ObjectReceipt(item.key, item.sha256, item.size, proven=False, reason=NOT_THERE)
    if (there.sha256, there.size) != (item.sha256, item.size):
        reason = f"the store says sha256 {there.sha256}, {there.size} bytes; sealed as {item.sha256}, {item.size} bytes"
        return ObjectReceipt(item.key, item.sha256, item.size, proven=False, reason=reason)
    since = case.incident.opened_at
    reason = retention.lacking(there.lock, there.retained_until, held=there.held, since=since)
    return ObjectReceipt(item.key, item.sha256, item.size, proven=not reason, reason=reason)
