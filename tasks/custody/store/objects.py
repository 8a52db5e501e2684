"""List the objects that an incident stores, in order. The manifest comes last (runbook §5)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import (
    MANIFEST,
    SIGNATURE,
    SUMS,
    claim_key,
    evidence_key,
    in_snapshot,
    latest_key,
    snapshot_folder,
)
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.evidence.pattern import matches_any
from tasks.custody.incident.incident import Incident
from tasks.custody.store.latest import ObjectRef
from tasks.custody.store.manifest import Manifest, canonical, digest_bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """An object that the store must have with a sealed file's digest, below `folder`, which ends with a slash.

    A copy has the key of its source in `origin`. `name` is that below the folder if it is not the file's own.
    """

    folder: str
    file: StoredFile
    origin: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """Its key; spelled anew each time, because an incident may have a million objects."""
        return self.folder + (self.name or self.file.stored)

    @property
    def sha256(self) -> str:
        """The sealed digest, in hexadecimal."""
        return self.file.sha256

    @property
    def size(self) -> int:
        """Bytes."""
        return self.file.size

    @property
    def stored_name(self) -> str:
        """The file's name in the evidence folder."""
        return self.file.stored

    @property
    def parts(self) -> Parts | None:
        """The parts in which a large object is uploaded."""
        return self.file.parts


def claim_bytes(incident: Incident, place: str) -> bytes:
    """Return the content of an incident's claim, its first object at this place: whose it is, since when."""
    since = {"boot": incident.boot, "opened_at": incident.opened_at}
    return canonical({"incident": incident.id, **asdict(incident.origin(place)), **since})


def claim_object(incident: Incident, place: str) -> Expected:
    """Return an incident's claim as an object that the store must have."""
    data = claim_bytes(incident, place)
    return one_object(claim_key(incident.id), len(data), digest_bytes(data))


def one_object(key: str, size: int, sha256: str) -> Expected:
    """Return an object that no manifest names."""
    folder, slash, name = key.rpartition("/")
    return Expected(folder + slash, StoredFile(name, "", size, sha256))


def evidence_objects(manifest: Manifest) -> list[Expected]:
    """Return the sealed files, without the manifest."""
    return _evidence(manifest, manifest.files)


def evidence_first(manifest: Manifest, patterns: Collection[str]) -> tuple[list[Expected], list[Expected]]:
    """Split the sealed files into evidence and what no pattern names, which may be copied from the evidence."""
    parts: tuple[list[Expected], list[Expected]] = [], []
    for item in evidence_objects(manifest):
        goes_along = item.file.source and in_snapshot(item.stored_name, manifest.folders)
        parts[bool(goes_along and not matches_any(item.file.path, patterns))].append(item)
    keys = {item.sha256: item.key for item in parts[0] if item.size}
    return parts[0], [replace(item, origin=keys.get(item.sha256, "")) for item in parts[1]]


def once(objects: Iterable[Expected]) -> tuple[list[Expected], list[Expected]]:
    """Split objects into those to send and those to copy from one of them. Empty objects are always sent."""
    first, again = dict[str, Expected](), list[Expected]()
    alone = list[Expected]()
    for item in objects:
        same = first.setdefault(item.sha256, item) if item.size else item
        if same is item:
            alone.append(item)
        else:
            again.append(replace(item, origin=same.key))
    return alone, again


def closing_objects(manifest: Manifest, signature: bytes = b"") -> list[Expected]:
    """Return SHA256SUMS, the signature if any, and last the manifest: without it, an incident is unfinished."""
    sha256, size = manifest.digest_and_size
    beside = ((SUMS, manifest.sums()), (SIGNATURE, signature))
    closing = [StoredFile(name, "", len(data), digest_bytes(data)) for name, data in beside if data]
    return _evidence(manifest, (*closing, StoredFile(MANIFEST, "", size, sha256)))


def snapshot_objects(manifest: Manifest, snapshot: str) -> list[Expected]:
    """Return models, artifacts, logs and the manifest's folders under the snapshot; a supplement has its own."""
    folder = snapshot_folder(snapshot, manifest.volume)
    of, whole = evidence_key(manifest.incident, manifest.volume, ""), frozenset(manifest.folders)
    files = (file for file in manifest.files if file.source and in_snapshot(file.stored, whole))
    return [Expected(folder, file, of + file.stored) for file in files]


def latest_held(manifest: Manifest, snapshot: str, places: Mapping[str, str]) -> dict[str, ObjectRef]:
    """Return what latest/ gets by key, each with the key that holds it: in the snapshot, else in the evidence.

    `places` are the names below latest/ of the files that passed their checks, by stored name.
    """
    held = {item.stored_name: item for item in (*evidence_objects(manifest), *snapshot_objects(manifest, snapshot))}
    wanted = ((place, held[stored]) for stored, place in places.items())
    return {latest_key(place): ObjectRef(item.sha256, item.size, item.key, item.parts) for place, item in wanted}


def all_objects(manifest: Manifest, snapshot: str, signature: bytes = b"") -> list[Expected]:
    """Return all objects that must be proven before an incident is VERIFIED."""
    return [*evidence_objects(manifest), *snapshot_objects(manifest, snapshot), *closing_objects(manifest, signature)]


def _evidence(manifest: Manifest, files: Iterable[StoredFile]) -> list[Expected]:
    folder = evidence_key(manifest.incident, manifest.volume, "")
    return [Expected(folder, file) for file in files]
