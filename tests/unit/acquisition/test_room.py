"""Short of room: a real small disk, a reserve on it, a fallback disk, and files that are hashed where they lie."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.workload import Workload
from tasks.acquisition.collector import Taken
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import IN_PLACE, Evidence, Outcome, Seal
from tasks.custody.evidence.keys import MANIFEST
from tasks.custody.evidence.room import ContentPlace, Free, places
from tasks.custody.store.manifest import digest
from tasks.custody.store.receipts import Receipts, lost_once, unproven
from tasks.custody.store.sent import Sent
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, seal
from tasks.incident.layout import UNPROVEN
from tasks.runtime.context import RunContext
from tasks.storage.offload import offload
from tasks.storage.verify import verify
from tasks.system.files.disk_reserve import give, give_all, take, with_reserve
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of, key_of, made
from tests.support.small_disks import MIB, fill, small_disk
from tests.support.workloads import SmallWorkload

MODEL = "models/model_big.joblib"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "evidence disk", 8) as mounted:
        yield mounted


@pytest.fixture
def block(small: SmallWorkload, disk: Path) -> Workload:
    """A workload with a model of 6 MiB, and an evidence disk of 8."""
    (small.root / MODEL).write_bytes(os.urandom(6 * MIB))
    return small.block(evidence_dir=disk / "incidents", reserve_mb=4)


def evidence_of(context: RunContext, *names: str) -> list[Evidence]:
    return [made(collect.fn(context, name)) for name in names]


def sealed(context: RunContext, evidence: list[Evidence], volume: int = 1) -> Seal:
    seal_: Seal = made(seal.fn(context, volume, evidence))
    return seal_


def offloaded(context: RunContext, seals: list[Seal]) -> Receipts:
    intact = made(check_seal.fn(context, seals))
    receipts: Receipts = made(verify.fn(context, seals, made(offload.fn(context, seals, intact))))
    return receipts


@given(need=st.integers(0, 100), free=st.integers(0, 100), fallback=st.none() | st.integers(0, 100), copies=...)
def test_a_file_goes_where_it_fits_and_in_place_always_does(
    *, need: int, free: int, fallback: int | None, copies: bool
) -> None:
    order = places(need, Free(free, fallback, copies))
    assert order[-1] is ContentPlace.IN_PLACE
    assert (ContentPlace.EVIDENCE in order) == (copies and need <= free)
    assert (ContentPlace.FALLBACK in order) == (fallback is not None and need <= fallback)
    assert list(order) == sorted(order, key=list(ContentPlace).index)


def test_a_reserve_is_really_taken_and_given_back_bit_by_bit(disk: Path) -> None:
    def free() -> int:
        about = os.statvfs(disk)
        return about.f_bavail * about.f_frsize

    whole, path = free(), disk / "reserve"
    assert take(path, 4 * MIB)
    assert free() <= whole - 4 * MIB
    assert take(path, 4 * MIB), "taken again it is the same"
    assert free() <= whole - 4 * MIB
    assert give(path, 1)
    assert path.stat().st_size == 3 * MIB
    assert give(path, 2 * MIB + 1)
    assert not give(path, 1)
    give_all(path)
    give_all(path)
    assert free() == whole
    assert not take(path, 9 * MIB)
    assert not path.exists()


def test_what_must_be_written_finds_room_in_the_reserve_and_no_more_than_that(disk: Path) -> None:
    take(disk / "reserve", 2 * MIB)
    fill(disk)
    with_reserve(disk / "reserve", 10, lambda: (disk / "note").write_bytes(b"x" * MIB))
    with pytest.raises(OSError, match="No space left"):
        with_reserve(disk / "reserve", 10, lambda: (disk / "too much").write_bytes(b"x" * 2 * MIB))


def test_the_custody_log_goes_on_when_the_disk_is_full(block: Workload, disk: Path) -> None:
    with case_of(block) as context:
        fill(disk)
        for number in range(300):
            context.log.write("something", str(number), why="x" * 500)
        on_disk = (context.directory.path / "custody.jsonl").read_text().splitlines()
        assert json.loads(on_disk[-1])["object"] == "299"
        context.state.unproven.write(["y" * 10_000])
        assert (context.directory.path / UNPROVEN).exists()


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_hashed_in_place_sent_and_proven(
    small: SmallWorkload, block: Workload, disk: Path
) -> None:
    with case_of(block, MemoryStore()) as context:
        evidence = evidence_of(context, "models", "logs")
        files = {file.stored: file for item in evidence for file in item.files}
        assert files[MODEL].where == IN_PLACE
        assert files["models/model_builtin.joblib"].where == ""
        assert all(item.outcome is Outcome.COLLECTED for item in evidence)
        (told,) = [
            entry for entry in context.log.entries() if entry["action"] == "room" and entry["object"] == "models"
        ]
        assert (told["files"], told["fits"], told["elsewhere"]) == (2, False, {IN_PLACE: 1})
        assert told["needed"] >= 6 * MIB
        seals = [sealed(context, evidence)]
        item = {
            item["path"]: item
            for item in json.loads((context.directory.evidence_dir(1) / MANIFEST).read_bytes())["items"]
        }[MODEL]
        assert (item["in_place"], item["where"]) == (True, IN_PLACE)
        assert not (context.directory.evidence_dir(1) / MODEL).exists()
        receipts = offloaded(context, seals)
        assert receipts.is_complete
        assert all(receipt.proven for receipt in receipts.objects)
        key = f"incidents/{context.incident.id}/evidence/{MODEL}"
        assert context.store.evidence.read(key) == (small.root / MODEL).read_bytes()
    assert not (disk / "incidents" / context.incident.id / "reserve").exists()


@pytest.mark.slow
def test_a_file_in_place_that_changed_is_lost_and_all_the_rest_is_proven(small: SmallWorkload, block: Workload) -> None:
    with case_of(block, MemoryStore()) as context:
        seals = [sealed(context, evidence_of(context, "models", "logs"))]
        model = small.root / MODEL
        before = model.read_bytes()
        model.write_bytes(before[:-1] + b"!")
        receipts = offloaded(context, seals)
        assert receipts.is_complete, "nothing that can still be sent is missing"
        assert unproven(receipts.objects) == []
        assert [receipt.key for receipt in lost_once(receipts.objects)] == [
            f"incidents/{context.incident.id}/evidence/{MODEL}"
        ]
        assert context.store.evidence.head(f"incidents/{context.incident.id}/evidence/{MANIFEST}")
        assert context.store.evidence.head(f"incidents/{context.incident.id}/evidence/{MODEL}") is None
        assert "lost" in {entry["action"] for entry in context.log.entries()}
        model.write_bytes(before)
        receipts = offloaded(context, seals)
        assert all(receipt.proven for receipt in receipts.objects), "the next run tries again"


@pytest.mark.slow
def test_a_file_in_place_that_was_lost_is_collected_anew_by_the_next_run(small: SmallWorkload, block: Workload) -> None:
    with case_of(block, MemoryStore()) as context:
        seals = [sealed(context, evidence_of(context, "models", "logs"))]
        before = {
            name: key_of(collect, context, collector=name) for name in ("models", "logs", "artifacts", "packages")
        }
        (small.root / MODEL).write_bytes(b"another")
        offloaded(context, seals)
        changed = {name for name, key in before.items() if key_of(collect, context, collector=name) != key}
        assert changed == {"models"}
        keys = key_of(collect, context, collector="models")
        offloaded(context, seals)
        assert key_of(collect, context, collector="models") == keys, "lost once more is no new reason"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["gone", "pipe", "link out", "folder"])
def test_whatever_stands_in_its_place_is_not_read_and_hangs_nothing(
    small: SmallWorkload, block: Workload, tmp_path: Path, what: str
) -> None:
    with case_of(block, MemoryStore()) as context:
        evidence = evidence_of(context, "models")
        seals = [sealed(context, evidence)]
        model = small.root / MODEL
        model.rename(tmp_path / "kept elsewhere")
        match what:
            case "pipe":
                os.mkfifo(model)
            case "link out":
                model.symlink_to(tmp_path / "kept elsewhere")
            case "folder":
                model.mkdir()
        receipts = offloaded(context, seals)
        assert len(lost_once(receipts.objects)) == 1
        (file,) = [file for file in evidence[0].files if file.in_place]
        if what != "gone":
            with pytest.raises(FileNotFoundError):
                context.directory.locate(1, file)


@pytest.mark.slow
def test_what_was_sent_before_it_changed_is_proven_for_good(small: SmallWorkload, block: Workload) -> None:
    with case_of(block, MemoryStore()) as context:
        seals = [sealed(context, evidence_of(context, "models"))]
        assert offloaded(context, seals).is_complete
        (small.root / MODEL).unlink()
        receipts = offloaded(context, seals)
        assert all(receipt.proven for receipt in receipts.objects)


def test_a_store_that_fails_loses_nothing_that_is_still_there(block: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.custody.errors import PermanentStoreError

    with case_of(block, MemoryStore()) as context:
        seals = [sealed(context, evidence_of(context, "models"))]

        def refuse(*_: object) -> None:
            raise PermanentStoreError("room", "none", "Nothing was stored.", "Make room.")

        context.log.write("claimed")
        intact = made(check_seal.fn(context, seals))
        monkeypatch.setattr(context.store.evidence, "create", refuse)
        with pytest.raises(PermanentStoreError):
            offload.fn(context, seals, intact)
        receipts = made(verify.fn(context, seals, Sent(0, 0, "")))
        assert lost_once(receipts.objects) == []
        assert len(unproven(receipts.objects)) == len(receipts.objects)


@pytest.mark.slow
def test_what_does_not_fit_goes_to_the_fallback_disk_and_is_sealed_there(block: Workload, tmp_path: Path) -> None:
    (tmp_path / "other disk").mkdir()
    block = block.model_copy(update={"fallback_dir": tmp_path / "other disk"})
    with case_of(block, MemoryStore()) as context:
        evidence = evidence_of(context, "models", "logs")
        seals = [sealed(context, evidence)]
        (file,) = [file for file in read_manifest(context.directory, 1).files if file.stored == MODEL]
        assert Path(file.where).is_relative_to(tmp_path / "other disk")
        assert context.directory.locate(1, file) == Path(file.where) / MODEL
        assert digest(context.directory.locate(1, file)) == file.sha256
        for folder in (Path(file.where), *Path(file.where).parents):
            if folder == tmp_path / "other disk":
                break
            assert folder.stat().st_mode & 0o077 == 0
        assert not list((context.directory.fallback or Path()).glob("staging/*"))
        assert all(receipt.proven for receipt in offloaded(context, seals).objects)
        context.directory.locate(1, file).write_bytes(b"forged")
        with pytest.raises(Tampered, match=MODEL):
            check_seal.fn(context, seals)
        context.directory.locate(1, file).unlink()
        with pytest.raises(Tampered, match="gone"):
            check_seal.fn(context, seals)


def test_a_file_that_is_planted_on_the_fallback_disk_breaks_the_seal(block: Workload, tmp_path: Path) -> None:
    (tmp_path / "other disk").mkdir()
    block = block.model_copy(update={"fallback_dir": tmp_path / "other disk"})
    with case_of(block) as context:
        seals = [sealed(context, evidence_of(context, "models"))]
        fallback_volume = context.directory.fallback_volume(1)
        assert fallback_volume
        (fallback_volume / "models/planted").write_text("x")
        with pytest.raises(Tampered, match="models/planted"):
            check_seal.fn(context, seals)


@pytest.mark.slow
def test_both_disks_full_leaves_it_in_place(block: Workload, tmp_path: Path) -> None:
    with small_disk(tmp_path / "other disk", 2) as other:
        block = block.model_copy(update={"fallback_dir": other})
        with case_of(block, MemoryStore()) as context:
            seals = [sealed(context, evidence_of(context, "models", "logs"))]
            assert {file.where for file in read_manifest(context.directory, 1).files} == {"", IN_PLACE}
            assert all(receipt.proven for receipt in offloaded(context, seals).objects)
        shutil.rmtree(block.evidence)


def test_a_disk_that_fills_while_it_is_copied_leaves_nothing_half(
    small: SmallWorkload, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small.root / MODEL).write_bytes(os.urandom(6 * MIB))
    # The estimate is of a moment: somebody else fills the disk right after it.
    from tasks.acquisition import room
    from tasks.acquisition.copying import Copying
    from tasks.acquisition.room import Room

    (disk / "here").mkdir()
    fill(disk, leave=MIB)
    monkeypatch.setattr(room, "_free", lambda _: 100 * MIB)
    copying = Copying(os.fsencode(small.root), Room(disk / "here", None, disk / "none", 0, copies=True), 1 << 40)
    taken = copying.take(MODEL.encode())
    assert isinstance(taken, Taken)
    assert taken.file.in_place
    assert [path for path in (disk / "here").rglob("*") if path.is_file()] == []


def test_what_we_make_ourselves_draws_on_the_reserve(block: Workload, disk: Path) -> None:
    with case_of(block) as context:
        fill(disk)
        (evidence,) = evidence_of(context, "packages")
        assert evidence.outcome is Outcome.COLLECTED
        assert (context.directory.evidence_dir(1) / "pip_freeze.txt").exists()
        seals = [sealed(context, [evidence])]
        assert made(check_seal.fn(context, seals))


def test_a_copy_of_an_earlier_attempt_counts_before_one_in_place(
    small: SmallWorkload, block: Workload, disk: Path
) -> None:
    with case_of(block) as context:
        (first,) = evidence_of(context, "logs")
        ballast = fill(disk)
        (second,) = evidence_of(context, "logs")
        assert first.files == second.files, "the same bytes are not looked for in two places"
        (small.root / "logs/train-20260101_000000.log").write_text("changed\n")
        (third,) = evidence_of(context, "logs")
        assert {file.where for file in third.files} == {IN_PLACE}
        ballast.unlink()
        seals = [sealed(context, [third])]
        files = {file.stored: file for file in read_manifest(context.directory, 1).files}
        assert files["logs/train-20260101_000000.log"].where == IN_PLACE
        assert files["attempt-1/logs/train-20260101_000000.log"].sha256 == first.files[0].sha256
        assert made(check_seal.fn(context, seals))
