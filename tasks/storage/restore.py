"""Download latest/, a snapshot or an incident into a folder (`evacuation pull`), and verify each file while writing."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.custody.audit.untrusted import PLAIN, Unreadable, read_closing, read_manifest
from tasks.custody.errors import PermanentStoreError, Refused, StoreError
from tasks.custody.evidence.keys import CLOSING, LATEST, record_key, snapshot_key, source_path
from tasks.custody.incident.incident import parse_id
from tasks.custody.step_result import StepResult
from tasks.custody.store.objects import all_objects
from tasks.storage.latest_history import History, history
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch, keys_of, read_back
from tasks.system.parallel import side_by_side
from tasks.system.write_beneath import Local, Mismatch, land, local

if TYPE_CHECKING:
    from blocks.port import Store, StoredObject

_SHOWN: Final = 3


class RestoreOutcome(StrEnum):
    """Result for one file."""

    NEW = "new"
    REPLACED = "replaced"
    SAME = "same"
    LEFT = "left"
    UNPROVEN = "unproven"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class Pulled:
    """One file: its name below the folder, its outcome, and the reason if it was not written."""

    name: str
    outcome: RestoreOutcome
    size: int = 0
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Pull(StepResult):
    """Result of a pull, for every file asked for. `changed` says that the store was changed meanwhile."""

    what: str
    files: tuple[Pulled, ...]
    changed: str = ""

    @property
    def is_complete(self) -> bool:
        """True if the folder now holds every file as the store has it."""
        return not self.changed and all(each.outcome in _HERE for each in self.files)

    @property
    def summary(self) -> str:
        """Counts of the files by outcome."""
        counts = Counter(each.outcome for each in self.files)
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in RestoreOutcome if counts[outcome]) or "no file"
        return f"{self.what}: {words}{f'; {self.changed}' if self.changed else ''}"


_HERE: Final = frozenset({RestoreOutcome.NEW, RestoreOutcome.REPLACED, RestoreOutcome.SAME})


@dataclass(frozen=True)
class RestoreSource:
    """What to pull: a prefix of the store, the folder that its files go to, and their expected digests.

    With `every_one`, a file without an expected digest is unproven; else it is one that people keep there.
    """

    what: str
    prefix: str
    below: str
    promised: Mapping[str, str]
    every_one: bool = False


def pull(store: "Store", what: str, folder: Path, *, overwrite: bool = False) -> Pull:
    """Download `what` (latest, IR-…, or a snapshot's stamp) into an existing folder. Never deletes there.

    A local file that differs and is newer is kept, unless `overwrite`. Raises Refused if there is no such content, or
    no space for it.
    """
    if not folder.is_dir():
        raise Refused("a folder that exists", str(folder), "Make it, or give another one as INTO.")
    past = history(store) if what == "latest" else History()
    source = source_of(store, what, past)
    there = {each.key: each for each in store.list(source.prefix) if not each.key.endswith("/")}
    if not there:
        raise Refused(f"{what} in {store.place}", "no object of it", "List the incidents: evacuation audit STORE.")
    _require_room(folder, {_place(source, _name(source, each.key)): each.size for each in there.values()})
    bring = partial(_bring, store, source, folder, overwrite)
    files = [
        *side_by_side(bring, there.values()),
        *(
            Pulled(_name(source, key), RestoreOutcome.MISSING, reason="it is not in the store")
            for key in source.promised.keys() - there
        ),
    ]
    return Pull(what, tuple(files), _changed(store, past) if what == "latest" else "")


def _changed(store: "Store", past: History) -> str:
    if past.open:
        return f"turn {past.number} of latest/ is not done: what is there is partly what it was before"
    return "" if history(store).number == past.number else "latest/ has changed meanwhile: run this again"


def source_of(store: "Store", what: str, past: History = History()) -> RestoreSource:  # noqa: B008  frozen
    """Return what to pull, with the digests that its documents promise. Raises Refused if there is no such content."""
    if what == "latest":
        turn = past.last if past.proof else None
        return RestoreSource(what, LATEST, "", {key: each.sha256 for key, each in turn.after.items()} if turn else {})
    if what.startswith("IR-"):
        incident = parse_id(what)
        return RestoreSource(
            what, f"incidents/{incident}/", f"{incident}/", _promised(store, incident, f"incidents/{incident}/")
        )
    stamp = what.removeprefix("snapshots/").strip("/")
    prefix = snapshot_key(stamp, "")
    if not (incidents := tuple(_incidents_of(stamp))):
        raise Refused(
            "latest, an incident IR-…, or a snapshot's stamp YYYYmmddTHHMMSSZ",
            what,
            "List the incidents: evacuation audit STORE; a snapshot's stamp is its incident's id without IR-.",
        )
    promised = {key: sha256 for each in incidents for key, sha256 in _promised(store, each, prefix).items()}
    return RestoreSource(what, prefix, "", promised, every_one=True)


def _incidents_of(stamp: str) -> Iterator[str]:
    """Yield the incidents that a snapshot may be of: its end .2 is a supplement's number or part of a host's name."""
    whole, _, volume = stamp.rpartition(".")
    for each in (stamp, whole if volume.isdecimal() else ""):
        with suppress(Refused):
            yield parse_id(f"IR-{each}")


def _promised(store: "Store", incident: str, prefix: str) -> dict[str, str]:
    """Return expected SHA-256 digests by key, from the incident's manifests and closings."""
    layout, keys, _ = keys_of(store, incident)
    found = dict[str, str]()
    try:
        for volume in layout.volumes:
            if (key := layout.manifest(volume)) in keys:
                manifest = read_manifest(store.stream(key))
                found |= {item.key: item.sha256 for item in all_objects(manifest, layout.snapshot)}
        for number in layout.records:
            if (key := record_key(incident, number, CLOSING)) in keys:
                closing = read_closing(fetch(store, key, DOCUMENT_LIMIT))
                found |= {record_key(incident, number, name): sha256 for name, sha256 in closing.files.items()}
                pages = closing.postmortem.items()
                found |= {f"incidents/{incident}/record/{path}": sha256 for path, sha256 in pages}
    except Unreadable as error:
        raise PermanentStoreError(
            f"{key} in {store.place} to be {error.expected}",
            error.got,
            "Nothing was pulled.",
            f"Audit the incident: evacuation audit STORE {incident}.",
        ) from error
    return {key: sha256 for key, sha256 in found.items() if key.startswith(prefix)}


def _require_room(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise Refused if the disk lacks space. A local file of the same size is taken to be the same."""
    size = sum(size for name, size in sizes.items() if not _is_here(folder / name, size))
    if (free := shutil.disk_usage(folder).free) < size:
        raise Refused(f"room for {size} bytes in {folder}", f"{free} free", "Free some, or give another folder.")


def _is_here(path: Path, size: int) -> bool:
    try:
        return path.lstat().st_size == size
    except OSError:
        return False


def _name(source: RestoreSource, key: str) -> str:
    return source.below + key.removeprefix(source.prefix)


def _place(source: RestoreSource, name: str) -> str:
    """Return where a file goes: below its incident as it is stored and named by SHA256SUMS, else as it was called."""
    return name if source.below else os.fsdecode(source_path(name))


def _bring(store: "Store", source: RestoreSource, folder: Path, overwrite: bool, there: "StoredObject") -> Pulled:  # noqa: FBT001
    made = _landed(store, source, folder, overwrite, there)
    if source.every_one and there.key not in source.promised and made.outcome in _HERE:
        return replace(made, outcome=RestoreOutcome.UNPROVEN, reason="it is here, but no manifest names it")
    return made


def _landed(store: "Store", source: RestoreSource, folder: Path, overwrite: bool, there: "StoredObject") -> Pulled:  # noqa: FBT001
    name = _name(source, there.key)
    if not PLAIN.fullmatch(name):
        return Pulled(name, RestoreOutcome.FAILED, reason="its name is none of ours")
    place = _place(source, name)
    try:
        expected = source.promised.get(there.key) or _told(store, there.key)
        before = local(folder, place)
        if before and before.sha256 == expected:
            return Pulled(name, RestoreOutcome.SAME, there.size)
        if before and not overwrite and (why := _why_left(before, there.modified)):
            return Pulled(name, RestoreOutcome.LEFT, there.size, why)
        land(folder, place, store.stream(there.key), expected, there.modified)
    except (OSError, Mismatch, StoreError) as error:
        return Pulled(name, RestoreOutcome.FAILED, there.size, str(error))
    return Pulled(name, RestoreOutcome.REPLACED if before else RestoreOutcome.NEW, there.size)


def _told(store: "Store", key: str) -> str:
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
