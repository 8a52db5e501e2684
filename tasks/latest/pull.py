"""Download latest/, a snapshot or an incident into a folder (`evacuation pull`), and verify each file while writing.

Only what a manifest, a closing or a turn names is written there: anybody who may write to the store could have put the
rest, and what lies in a workload's folder may be run.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from blocks.port import Store, StoredObject
from tasks.custody.audit.layout import SIGNATURE, Layout, beside
from tasks.custody.audit.untrusted import PLAIN, Unreadable, read_closing, read_manifest
from tasks.custody.errors import PermanentStoreError, Refused, StoreError
from tasks.custody.evidence.keys import LATEST, MODELS, beside_key, claim_key, record_key, snapshot_folder, source_path
from tasks.custody.incident.incident import parse_id
from tasks.custody.models.inspection import Inspection, Soundness, goes_along, plain
from tasks.custody.step_result import StepResult
from tasks.custody.store.manifest import Hashed, digest_bytes
from tasks.custody.store.objects import Expected, all_objects
from tasks.latest.history import History, history
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch, keys_of, read_back
from tasks.system.files.write_beneath import Local, Mismatch, land, local
from tasks.system.parallel import side_by_side


class RestoreOutcome(StrEnum):
    """Result for one file."""

    NEW = "new"
    REPLACED = "replaced"
    SAME = "same"
    LEFT = "left"
    UNPROMISED = "unpromised"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class Pulled:
    """One file: its name below the folder, its outcome, and its digest if it is there.

    `reason` says why it was not written, or what it lacks of owner and mode.
    """

    name: str
    outcome: RestoreOutcome
    size: int = 0
    reason: str = ""
    sha256: str = ""


@dataclass(frozen=True, repr=False)
class Pull(StepResult):
    """Result of a pull, for every file asked for. `changed` says that the store was changed meanwhile.

    `held` says which models of the incident that latest/ is from are not in it.
    """

    what: str
    files: tuple[Pulled, ...]
    changed: str = ""
    held: str = ""

    @property
    def is_complete(self) -> bool:
        """True if the folder now holds every file that is promised, and that is at least one."""
        found = {each.outcome for each in self.files}
        return not self.changed and found <= {*_HERE, RestoreOutcome.UNPROMISED} and not found.isdisjoint(_HERE)

    @property
    def summary(self) -> str:
        """Counts of the files by outcome."""
        counts = Counter(each.outcome for each in self.files)
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in RestoreOutcome if counts[outcome]) or "no file"
        return f"{self.what}: {words}{f'; {self.changed}' if self.changed else ''}"


_SHOWN: Final = 10
_DEPTH: Final = 3  # incidents/IR-…/evidence/models.json
_HERE: Final = frozenset({RestoreOutcome.NEW, RestoreOutcome.REPLACED, RestoreOutcome.SAME})


@dataclass(frozen=True)
class RestoreSource:
    """What to pull: a prefix of the store, the folder that its files go to, and the digests that are promised by key.

    Of a document that proves itself, such as a signature, no digest is promised; it is empty. `access` has the mode and
    owner that a manifest has recorded, by key.
    """

    what: str
    prefix: str
    below: str
    promised: Mapping[str, str]
    access: Mapping[str, str] = field(default_factory=dict)


def pull(store: Store, what: str, folder: Path, *, overwrite: bool = False, unpromised: Path | None = None) -> Pull:
    """Download `what` (latest, IR-…, or a snapshot's stamp) into a folder, which may be new. Never deletes there.

    What no proof promises goes to the folder `unpromised`, or nowhere. A local file that differs and is newer is kept,
    unless `overwrite`. Raises Refused if there is no such content, or no space for it.
    """
    if not (folder.is_dir() or (folder.parent.is_dir() and not os.path.lexists(folder))):
        expected = "a folder, or a new one in a folder that exists"
        raise Refused(expected, str(folder), "Make the folder above it, or give another one as INTO.")
    if unpromised:
        _require_apart(unpromised, folder)
    past = history(store) if what == "latest" else History()
    source = source_of(store, what, past)
    there = {each.key: each for each in store.list(source.prefix) if not each.key.endswith("/")}
    if not there:
        raise Refused(f"{what} in {store.place}", "no object of it", "List the incidents: evacuation audit STORE.")
    folder.mkdir(exist_ok=True)
    promised = [each for key, each in there.items() if key in source.promised]
    others = [each for key, each in there.items() if key not in source.promised]
    for into, some in ((folder, promised), (unpromised, others)):
        if into:
            _require_room(into, {_place(source, _name(source, each.key)): each.size for each in some})
    missing = (_name(source, key) for key in source.promised.keys() - there)
    files = [
        *side_by_side(partial(_restore, store, source, folder, overwrite), promised),
        *side_by_side(partial(_set_apart, store, source, unpromised), others),
        *(Pulled(name, RestoreOutcome.MISSING, reason="it is not in the store") for name in missing),
    ]
    changed = ""
    if past.open:
        changed = f"turn {past.number} of latest/ is not done: what is there is partly what it was before"
    elif what == "latest" and history(store).number != past.number:
        changed = "latest/ has changed meanwhile: run this again"
    return Pull(what, tuple(files), changed, _tell_held(store, past, source))


def _tell_held(store: Store, past: History, source: RestoreSource) -> str:
    """Return which models that the incident judged latest/ goes without, and why; empty if none is known."""
    if not (past.last and (incident := past.last.incident)):
        return ""
    here, held = {*source.promised.values()}, list[str]()
    try:
        for key, sha256 in _find_promised(store, incident, f"incidents/{incident}/", {}).items():
            if key.count("/") == _DEPTH and key.endswith(f"/{MODELS}"):
                data = fetch(store, key, DOCUMENT_LIMIT)
                found = Inspection.from_bytes(data).findings if digest_bytes(data) == sha256 else ()
                models = (each for each in found if not goes_along(each) and each.sha256 not in here)
                held += [plain(each.summary) for each in models if each.outcome is not Soundness.SOUND]
    except (StoreError, ValueError, KeyError, TypeError) as error:
        return f"whether models were held back from latest/ is not known 不明: {plain(error)}"
    shown = f"{'; '.join(held[:_SHOWN])}{'; …' * bool(held[_SHOWN:])}"
    return f"not in latest/ 未収録のモデル: {len(held)}, which {incident} has as evidence: {shown}" if held else ""


def _require_apart(unpromised: Path, folder: Path) -> None:
    """Raise Refused unless this is an empty folder that has nothing to do with the one that is pulled into."""
    ours, theirs = folder.resolve(), unpromised.resolve()
    apart = not (theirs.is_relative_to(ours) or ours.is_relative_to(theirs))
    if not apart or not theirs.is_dir() or any(theirs.iterdir()):
        expected = f"an empty folder of its own outside of {ours}, for what no proof promises"
        raise Refused(expected, str(unpromised), "Make it (mkdir), and give it as --unpromised.")


def source_of(store: Store, what: str, past: History = History()) -> RestoreSource:  # noqa: B008  frozen
    """Return what to pull, with the digests that its documents promise. Raises Refused if there is no such content."""
    access = dict[str, str]()
    if what == "latest":
        after = past.last.after if past.last else {}
        brought = {key: each.sha256 for key, each in after.items() if each.key}  # what others put there, no key holds
        held = {key: each.key for key, each in after.items() if each.key}
        for incident in dict.fromkeys(
            each for key in held.values() for each in _incidents_of(key.split("/")[1].removeprefix("IR-"))
        ):
            with suppress(StoreError, ValueError, KeyError, TypeError):
                _find_promised(store, incident, LATEST, access)
        return RestoreSource(what, LATEST, "", brought, {key: access.get(at, "") for key, at in held.items()})
    if what.startswith("IR-"):
        incident, prefix = parse_id(what), f"incidents/{parse_id(what)}/"
        return RestoreSource(what, prefix, f"{incident}/", _find_promised(store, incident, prefix, access), access)
    stamp = what.removeprefix("snapshots/").strip("/")
    prefix = snapshot_folder(stamp)
    if not (incidents := tuple(_incidents_of(stamp))):
        raise Refused(
            "latest, an incident IR-…, or a snapshot's stamp YYYYmmddTHHMMSSZ",
            what,
            "List the incidents: evacuation audit STORE; a snapshot's stamp is its incident's id without IR-.",
        )
    found = (_find_promised(store, each, prefix, access) for each in incidents)
    promised = {key: sha256 for each in found for key, sha256 in each.items()}
    return RestoreSource(what, prefix, "", promised, access)


def _incidents_of(stamp: str) -> Iterator[str]:
    """Yield the incidents that a snapshot may be of: its end .2 is a supplement's number or part of a host's name."""
    whole, _, volume = stamp.rpartition(".")
    for each in (stamp, whole if volume.isdecimal() else ""):
        with suppress(Refused):
            yield parse_id(f"IR-{each}")


def _find_promised(store: Store, incident: str, prefix: str, access: dict[str, str]) -> dict[str, str]:
    """Return expected SHA-256 digests by key, from the incident's manifests and closings, and these themselves.

    `access` takes in what the manifests have recorded of mode and owner, by key.
    """
    layout, keys, _ = keys_of(store, incident)
    found, sealed, key = dict[str, str](), dict[str, str](), ""
    try:
        for number in (each for each in layout.records if layout.closing(each) in keys):
            closing = read_closing(fetch(store, key := layout.closing(number), DOCUMENT_LIMIT))
            found |= {record_key(incident, number, name): sha256 for name, sha256 in closing.files.items()}
            found |= {f"incidents/{incident}/record/{path}": sha256 for path, sha256 in closing.postmortem.items()}
            sealed |= {f"incidents/{incident}/{path}": sha256 for path, sha256 in closing.manifests.items()}
        if not found:  # no run has closed it: what is there is all that can be asked
            sealed = {key: "" for key in map(layout.manifest, layout.volumes) if key in keys}
        for volume in (each for each in layout.volumes if layout.manifest(each) in sealed):
            sha256 = sealed[layout.manifest(volume)]
            places = (beside_key(incident, sha256), layout.manifest(volume))
            if key := next((each for each in places if each in keys), ""):
                objects = _named_by(store, key, sha256, layout, volume)
                found |= {item.key: item.sha256 for item in objects}
                access |= {item.key: item.file.access for item in objects if item.file.access}
    except Unreadable as error:
        raise PermanentStoreError(
            f"{key} in {store.place} to be {error.expected}",
            error.got,
            "Nothing was pulled.",
            f"Audit the incident: evacuation audit STORE {incident}.",
        ) from error
    signed = [*sealed, *map(layout.closing, layout.records)]
    stamps = (name for number in layout.records for name in beside(layout.closing(number)))
    themselves = (claim_key(incident), *signed, *(f"{key}{SIGNATURE}" for key in signed), *stamps)
    found |= {key: sealed.get(key, "") for key in themselves if key in keys}
    found |= {key: sha256 for sha256 in {*found.values()} if (key := beside_key(incident, sha256)) in keys}
    return {key: sha256 for key, sha256 in found.items() if key.startswith(prefix)}


def _named_by(store: Store, key: str, sha256: str, layout: Layout, volume: int) -> list[Expected]:
    """Return what a manifest names. Raises Unreadable if it is another one than that, or of another folder."""
    manifest = read_manifest(whole := Hashed(store.stream(key)))
    if (manifest.incident, manifest.volume) != (layout.incident, volume):
        raise Unreadable(f"the manifest of {layout.incident}, folder {volume}", "another")
    if sha256 and whole.sha256 != sha256:
        raise Unreadable(f"the manifest that a closing names, {sha256}", whole.sha256)
    return all_objects(manifest, layout.snapshot)


def _require_room(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise Refused if the disk lacks space. A local file of the same size is taken to be the same."""
    size = sum(size for name, size in sizes.items() if not _is_here(folder / name, size))
    if (free := shutil.disk_usage(folder).free) < size:
        raise Refused(f"room for {size} bytes in {folder}", f"{free} free", "Free some, or give another folder.")


def _is_here(path: Path, size: int) -> bool:
    with suppress(OSError):
        return path.lstat().st_size == size
    return False


def _name(source: RestoreSource, key: str) -> str:
    return source.below + key.removeprefix(source.prefix)


def _place(source: RestoreSource, name: str) -> str:
    """Return where a file goes: below its incident as it is stored and named by SHA256SUMS, else as it was called."""
    return name if source.below else os.fsdecode(source_path(name))


def _set_apart(store: Store, source: RestoreSource, unpromised: Path | None, there: StoredObject) -> Pulled:
    """Write what no proof promises into the folder for that, if there is one."""
    name, why = _name(source, there.key), "no manifest, closing or turn names it"
    if unpromised is None:
        why = f"{why}, so it was not written; --unpromised FOLDER takes it"
    elif (result := _restore(store, source, unpromised, False, there)).outcome not in _HERE:
        return result
    else:
        why = f"{why}; it is in {unpromised}"
    return Pulled(name, RestoreOutcome.UNPROMISED, there.size, why)


def _restore(store: Store, source: RestoreSource, folder: Path, overwrite: bool, there: StoredObject) -> Pulled:  # noqa: FBT001
    name = _name(source, there.key)
    if not PLAIN.fullmatch(name):
        return Pulled(name, RestoreOutcome.FAILED, reason="its name is none of ours")
    place = _place(source, name)
    try:
        expected = source.promised.get(there.key) or _find_digest(store, there.key)
        before = local(folder, place)
        if before and before.sha256 == expected:
            return Pulled(name, RestoreOutcome.SAME, there.size, sha256=expected)
        if before and not overwrite and (why := _why_left(before, there.modified)):
            return Pulled(name, RestoreOutcome.LEFT, there.size, why)
        recorded = source.access.get(there.key, "")
        lacks = land(folder, place, store.stream(there.key), expected, there.modified, recorded)
    except (OSError, Mismatch, StoreError) as error:
        return Pulled(name, RestoreOutcome.FAILED, there.size, str(error))
    outcome = RestoreOutcome.REPLACED if before else RestoreOutcome.NEW
    return Pulled(name, outcome, there.size, "" if source.below else lacks, expected)  # evidence is for who pulls it


def _find_digest(store: Store, key: str) -> str:
    """Return the digest of an object that no document names: the store's own, else that of its bytes."""
    there = store.head(key)
    if there is None:
        raise Mismatch("it is no longer in the store")
    return there.sha256 or read_back(store, key, there.size)


def _why_left(before: Local, modified: datetime | None) -> str:
    """Return why a differing local file is not replaced without `overwrite`; empty if it may be."""
    if not before.sha256:
        return "what is here is no file"
    if modified is None or before.modified > modified:
        return f"what is here is newer ({before.modified:%Y-%m-%d %H:%M:%S} UTC); --overwrite replaces it"
    return ""
