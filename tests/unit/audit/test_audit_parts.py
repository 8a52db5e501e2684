"""What an audit makes of an object that came in parts: the store's digest of them counts if the manifest says why."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from blocks.port import StoredObject
from tasks.custody.audit.finding import Severity
from tasks.custody.audit.promise import Promise, check_promise
from tasks.custody.audit.untrusted import Unreadable, read_manifest
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.manifest import Manifest, canonical
from tasks.custody.store.objects import all_objects
from tasks.storage.untrusted_reads import see
from tests.support.memory_store import MemoryStore

DATA = b"a large file"
SHA = hashlib.sha256(DATA).hexdigest()
PARTS = Parts(7, len(DATA), tuple(hashlib.sha256(each).hexdigest() for each in (DATA[:7], DATA[7:])))
FILE = StoredFile("models/model_a.joblib", "models/model_a.joblib", len(DATA), SHA, parts=PARTS)
MANIFEST = Manifest("IR-20260102T030405Z", 1, "2026-01-02T03:04:05Z", (FILE,))
PROMISE = Promise("key", SHA, len(DATA), "the manifest", PARTS.composite)


class InParts(MemoryStore):
    """A store that took its objects in parts, and counts how often one is read."""

    composite = PARTS.composite
    reads = 0

    def head(self, key: str) -> StoredObject | None:
        """No digest of the whole."""
        there = super().head(key)
        return there and replace(there, sha256=None, composite=self.composite)

    def stream(self, key: str) -> Iterator[bytes]:
        """Count it."""
        self.reads += 1
        return super().stream(key)


@pytest.mark.parametrize(
    ("composite", "data", "deep", "reads", "found"),
    [
        (PARTS.composite, DATA, False, 0, None),
        (PARTS.composite, DATA, True, 1, None),
        (PARTS.composite, b"another file", True, 1, Severity.BROKEN),
        (f"{SHA}-3", DATA, False, 1, None),
        (f"{SHA}-3", b"another file", False, 1, Severity.BROKEN),
        (f"{SHA}-2", DATA, False, 1, Severity.NOTE),
        (f"{SHA}-2", b"another file", False, 1, Severity.BROKEN),
        ("", DATA, False, 1, None),
    ],
)
def test_the_digest_of_the_parts_counts_and_any_other_is_no_proof(
    composite: str,
    data: bytes,
    deep: bool,  # noqa: FBT001
    reads: int,
    found: Severity | None,
) -> None:
    store = InParts()
    store.composite = composite
    store.create("key", data, hashlib.sha256(data).hexdigest())
    fault = check_promise(PROMISE, see(store, PROMISE, None, deep=deep))
    assert (fault.severity if fault else None) == found
    assert store.reads == reads


def test_a_manifest_gives_each_copy_the_parts_of_its_file() -> None:
    assert Manifest.read([MANIFEST.to_bytes()]) == MANIFEST == read_manifest(MANIFEST.to_bytes())
    with_parts = [item.key for item in all_objects(MANIFEST, "20260102T030405Z") if item.parts == PARTS]
    assert with_parts == [
        "incidents/IR-20260102T030405Z/evidence/models/model_a.joblib",
        "snapshots/20260102T030405Z/models/model_a.joblib",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"part_bytes": 0},
        {"part_bytes": -7},
        {"part_bytes": 6.5},
        {"part_bytes": 12},
        {"part_bytes": None},
        {"part_bytes": True},
        {"parts": []},
        {"parts": list(PARTS.digests) * 2},
        {"parts": [PARTS.digests[0], "x" * 64]},
        {"parts": "ab"},
        {"parts": {"a": 1}},
        {"parts": None},
    ],
)
def test_parts_that_cannot_be_make_a_manifest_unreadable(change: dict[str, Any]) -> None:
    document = json.loads(MANIFEST.to_bytes())
    document["items"][0] |= change
    with pytest.raises(Unreadable):
        read_manifest(canonical(document))
