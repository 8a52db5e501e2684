"""What crosses to the store: each byte once, nothing that is there already; and what is believed of it afterwards."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from blocks.port import StoredObject, ignore_progress
from tasks.custody.errors import TransientStoreError
from tasks.custody.evidence import part_sizes as division
from tasks.custody.evidence.keys import beside_key, evidence_key
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.retention import Retention
from tasks.evidence.seal import read_manifest
from tasks.incident.layout import LEDGER
from tasks.runtime.progress import Progress
from tasks.storage import offload, verify
from tasks.storage.upload_ledger import Ledger
from tests.support.deliveries import bad, proven, run_of, sent
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, key_of
from tests.support.workloads import SmallWorkload

LATER = "IR-20260103T030405Z"
LOG = "logs/train-20260101_000000.log"


class Counting(MemoryStore):
    """A store that knows what came in from outside, and may break off after so many objects."""

    def __init__(self) -> None:
        """Nothing has come, and nothing breaks."""
        super().__init__()
        self.came: list[str] = []
        self.looked: list[str] = []
        self.left: int | None = None

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = ignore_progress,
    ) -> None:
        """Count it, unless the connection is lost by now."""
        if key.startswith("incidents/") and "/evidence/" in key:
            if self.left == len(self.came):
                raise TransientStoreError("an answer", "none", "Nothing was stored.", "Try again.")
            self.came.append(key)
        super().create(key, source, sha256, parts, tell)

    def head(self, key: str) -> StoredObject | None:
        """Count it."""
        self.looked.append(key)
        return super().head(key)

    def change(self, key: str, data: bytes) -> None:
        """As somebody with the right to it."""
        self._objects[key] = data

    def lose(self, key: str) -> None:
        """As a broken disk would."""
        del self._objects[key]


class Mute(Counting):
    """A store that keeps no digests."""

    def head(self, key: str) -> StoredObject | None:
        """Without the digest."""
        there = super().head(key)
        return there and replace(there, sha256=None)


class Lying(Counting):
    """A store whose disk has rotted under the digests that it remembers."""

    def head(self, key: str) -> StoredObject | None:
        """What it remembers."""
        there = super().head(key)
        remembered = self.remembered.get(key)
        return there and replace(there, sha256=remembered or there.sha256)

    remembered: dict[str, str] = {}  # noqa: RUF012  one test's


@pytest.mark.slow
def test_each_byte_crosses_once_and_the_snapshot_is_copied(small: SmallWorkload) -> None:
    store = Counting()
    with run_of(small, store) as (context, seals):
        done = sent(context, seals)
        assert len(store.came) == len(set(store.came))
        assert done.sent == done.size
        assert proven(context, seals).is_complete


class Slow(Counting):
    """A store that takes the last file only after a copy has been made."""

    copied: Event

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = ignore_progress,
    ) -> None:
        """Wait, if it is a model."""
        assert "/models/" not in key or self.copied.wait(30)
        super().create(key, source, sha256, parts, tell)

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Tell who waits."""
        super().copy(source, key, sha256, parts, replace=replace)
        self.copied.set()


@pytest.mark.slow
def test_the_store_copies_while_the_next_file_is_sent(small: SmallWorkload) -> None:
    store = Slow()
    store.copied = Event()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_each_object_that_is_proven_counts_once_in_the_progress(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = list[Progress]()

    def made(objects: int, size: int) -> Progress:
        shown.append(Progress(objects, size))
        return shown[-1]

    monkeypatch.setattr(verify, "Progress", made)
    with run_of(small, MemoryStore()) as (context, seals):
        sent(context, seals)
        receipts = proven(context, seals)
    (progress,) = shown
    assert progress.done == progress.objects == len(receipts.objects) - 1  # its claim
    assert progress.done_size == progress.size


@pytest.mark.slow
def test_what_a_folder_has_twice_is_sent_once(small: SmallWorkload) -> None:
    shutil.copyfile(small.root / "models/model_builtin.joblib", small.root / "models/model_copy.joblib")
    store = Counting()
    with run_of(small, store) as (context, seals):
        done = sent(context, seals)
        size = (small.root / "models/model_copy.joblib").stat().st_size
        assert done.sent == done.size - size
        assert done.copied == size
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_after_a_break_only_what_is_missing_is_sent(small: SmallWorkload) -> None:
    store = Counting()
    store.left = 3
    with run_of(small, store) as (context, seals), pytest.raises(TransientStoreError):
        sent(context, seals)
    before, store.left = list(store.came), None
    with run_of(small, store) as (context, seals):
        with (context.directory.path / LEDGER).open("ab") as torn:
            torn.write(b'{"key": "incidents/')
        sent(context, seals)
        assert len(before) == 3
        assert len(store.came) == len(set(store.came))
        assert proven(context, seals).is_complete
        assert set(Ledger(context.directory.path, context.store.label).known) >= set(store.came)


@pytest.mark.slow
def test_what_the_store_has_lost_is_sent_again_whatever_the_ledger_says(small: SmallWorkload) -> None:
    store = Counting()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        lost = evidence_key(INCIDENT, 1, LOG)
        store.lose(lost)
        assert [each.key for each in bad(proven(context, seals))] == [lost]
        sent(context, seals)
        assert store.came.count(lost) == 2
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_what_is_listed_is_not_asked_for_until_it_is_verified_nor_believed_once_it_was_doubted(
    small: SmallWorkload,
) -> None:
    store, key = Counting(), evidence_key(INCIDENT, 1, LOG)
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        store.looked.clear()
        sent(context, seals)
        assert not [each for each in store.looked if each.startswith(("snapshots/", key.removesuffix(LOG)))]
        store.change(key, b"iteration 2\n")
        sent(context, seals)
        assert [(each.key, each.beside) for each in bad(proven(context, seals))] == [(key, "")]
        sent(context, seals)
        (found,) = bad(proven(context, seals))
        assert (found.key, found.beside) == (key, beside_key(INCIDENT, found.sha256))


@pytest.mark.slow
def test_where_retention_is_asked_each_object_is_asked_for(small: SmallWorkload) -> None:
    store = Counting()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        store.looked.clear()
        context.store.__dict__["block"] = SimpleNamespace(retention=Retention("governance", 30), signing=None)
        sent(context, seals)
        assert {each for each in store.looked if each.startswith("snapshots/")}


@pytest.mark.slow
def test_a_later_incident_with_the_same_content_sends_next_to_nothing(small: SmallWorkload) -> None:
    (small.root / "models/model_builtin.joblib").write_bytes(os.urandom(300_000))
    store = Counting()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
    store.came.clear()
    with run_of(small, store, LATER) as (context, seals):
        done = sent(context, seals)
        assert not [key for key in store.came if "/models/" in key or "/logs/" in key]
        assert done.copied > 300_000
        assert done.sent < done.size / 10
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_a_source_is_copied_only_if_the_store_itself_says_what_it_is(small: SmallWorkload) -> None:
    store = Counting()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
    store.change(evidence_key(INCIDENT, 1, LOG), b"forged")
    store.came.clear()
    with run_of(small, store, LATER) as (context, seals):
        sent(context, seals)
        assert evidence_key(LATER, 1, LOG) in store.came
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_content_of_another_place_is_sent(small: SmallWorkload) -> None:
    with run_of(small, Counting()) as (context, seals):
        sent(context, seals)
    store = Counting()
    store._place = "memory:another"
    with run_of(small, store, LATER) as (context, seals):
        assert sent(context, seals).copied == 0
        assert proven(context, seals).is_complete


@pytest.mark.slow
def test_a_store_without_digests_is_proven_by_reading_back(small: SmallWorkload) -> None:
    store = Mute()
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        receipts = proven(context, seals)
        assert receipts.is_complete
        assert all(each.read for each in receipts.objects)
        store.change(evidence_key(INCIDENT, 1, LOG), b"iteration 2\n")
        assert "gives back" in bad(proven(context, seals))[0].reason


@pytest.mark.slow
def test_on_request_every_byte_is_read_back(small: SmallWorkload) -> None:
    store, key = Lying(), evidence_key(INCIDENT, 1, LOG)
    with run_of(small, store) as (context, seals):
        sent(context, seals)
        there = store.head(key)
        assert there
        store.remembered[key] = there.sha256 or ""
        store.change(key, b"iteration 2\n")
        assert proven(context, seals).is_complete
        (found,) = bad(proven(context, seals, read_back=True))
        assert (found.key, found.read) == (key, True)


@pytest.mark.slow
def test_large_files_are_sealed_with_their_parts(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "ABOVE", 1000)
    monkeypatch.setattr(division, "PART", 1 << 20)
    (small.root / "models/model_builtin.joblib").write_bytes(data := os.urandom((1 << 20) + 5))
    store = Counting()
    with run_of(small, store) as (context, seals):
        files = {file.stored: file for file in read_manifest(context.directory, 1).files}
        parts = files["models/model_builtin.joblib"].parts
        assert parts
        assert (parts.size, parts.total, len(parts.digests)) == (1 << 20, len(data), 2)
        sent(context, seals)
        assert proven(context, seals).is_complete


def test_what_was_not_proven_is_sent_again_in_each_run_and_what_was_proven_in_none(small: SmallWorkload) -> None:
    """A key that came back would take an earlier run's word for the same loss."""
    keys = []
    with run_of(small, MemoryStore()) as (context, seals):
        for number, missing in enumerate([[], [LOG], [LOG], [], [LOG]], 1):
            context.run = replace(context.run, number=number)
            context.state.unproven.write(missing)
            keys.append(key_of(offload.offload, context, seals=seals))
    proven_first, *doubted, proven_again, doubted_again = keys
    assert proven_first == proven_again
    assert len({proven_first, *doubted, doubted_again}) == 4
