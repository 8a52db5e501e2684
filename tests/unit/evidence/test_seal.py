"""The seal: what it covers, that it is broken by any change, and that later findings leave it alone."""

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.custody.errors import Tampered, TooMany
from tasks.custody.evidence.acquisition import Evidence, Outcome, Seal, StoredFile
from tasks.custody.evidence.coverage import attempts
from tasks.custody.evidence.keys import COVERAGE, MANIFEST, SEGMENT, SUMS, evidence_key, unquote
from tasks.custody.incident.log import broken, head
from tasks.custody.store.manifest import digest, digest_bytes
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, seal, volumes_to_seal
from tasks.runtime.context import RunContext
from tasks.runtime.retry import may_pass
from tasks.storage.offload import offload
from tasks.storage.verify import verify
from tests.support.flushes import flushes
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

NAMES = ("memory", "packages", "logs", "artifacts", "models")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def context(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as opened:
        yield opened


def collected(context: RunContext, *names: str) -> list[Evidence]:
    made = [collect.fn(context, name).data for name in names]
    return [item for item in made if isinstance(item, Evidence)]


def sealed(context: RunContext, evidence: list[Evidence], volume: int = 1) -> Seal:
    made = seal.fn(context, volume, evidence).data
    assert isinstance(made, Seal)
    return made


def segment(context: RunContext, volume: int) -> list[bytes]:
    return (context.directory.evidence_dir(volume) / SEGMENT).read_bytes().splitlines(keepends=True)


@pytest.mark.slow
def test_a_seal_covers_every_file_and_holds(context: RunContext) -> None:
    evidence = collected(context, *NAMES)
    made = sealed(context, evidence)
    manifest = read_manifest(context.directory, 1)
    on_disk = {
        str(path.relative_to(context.directory.evidence_dir(1)))
        for path in context.directory.evidence_dir(1).rglob("*")
        if path.is_file()
    }
    assert {file.stored for file in manifest.files} | {MANIFEST, SUMS} == on_disk
    assert (made.files, made.size) == (len(manifest.files), manifest.size)
    assert check_seal.fn(context, [made]).data == made
    assert (manifest.incident, manifest.volume) == (context.incident.id, 1)
    assert manifest.generated_utc.endswith("Z")
    assert datetime.fromisoformat(manifest.generated_utc).tzinfo is UTC
    by_name = {file.stored: file for file in manifest.files}
    assert all(by_name[file.stored] == file for item in evidence for file in item.files)
    assert not any(file.note for file in manifest.files)


def test_the_coverage_names_every_attempt_failed_ones_too(context: RunContext) -> None:
    lost = Evidence("kernel", False, False, Outcome.DENIED, "not permitted", NOW, NOW, 1)
    sealed(context, [*collected(context, "packages"), lost])
    coverage = json.loads((context.directory.evidence_dir(1) / COVERAGE).read_bytes())
    assert [(item["collector"], item["outcome"]) for item in coverage["statement"]] == [
        ("packages", "collected"),
        ("kernel", "denied"),
    ]
    assert coverage["statement"][1]["impact"].startswith("Unanswered: ")
    assert [item["collector"] for item in attempts(coverage)] == ["packages", "kernel"]


@pytest.mark.slow
def test_an_auditor_can_check_it_without_us(context: RunContext) -> None:
    sealed(context, collected(context, *NAMES))
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=context.directory.evidence_dir(1), check=True
    )


def test_nothing_at_all_can_be_sealed_too(context: RunContext) -> None:
    made = sealed(context, [])
    assert {file.stored for file in read_manifest(context.directory, 1).files} == {COVERAGE, SEGMENT}
    assert check_seal.fn(context, [made]).data == made


@pytest.mark.slow
def test_more_files_than_could_be_read_back_are_not_sealed_and_the_message_says_what_to_do(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = collected(context, *NAMES)
    monkeypatch.setattr("tasks.custody.store.rows.ROWS_LIMIT", 3)
    with pytest.raises(TooMany, match=r"at most 3 files .* Nothing is sealed or sent: .* carry the incident on\."):
        seal.fn(context, 1, evidence)
    assert not (context.directory.evidence_dir(1) / MANIFEST).exists()
    monkeypatch.undo()
    assert sealed(context, evidence).files > len(NAMES)


def change(folder: Path) -> str:
    data = bytearray((folder / "logs/train-20260101_000000.log").read_bytes())
    data[-1] ^= 1
    (folder / "logs/train-20260101_000000.log").write_bytes(data)
    return "logs/train-20260101_000000.log"


def add(folder: Path) -> str:
    (folder / "models/planted.joblib").write_bytes(b"")
    return "models/planted.joblib"


def remove(folder: Path) -> str:
    (folder / "pip_freeze.txt").unlink()
    return "pip_freeze.txt"


def replace_by_link(folder: Path) -> str:
    (folder / "pip_freeze.txt").rename(folder.parent / "elsewhere")
    (folder / "pip_freeze.txt").symlink_to("../elsewhere")
    return "pip_freeze.txt"


def replace_folder_by_link(folder: Path) -> str:
    (folder / "logs").rename(folder.parent / "elsewhere")
    (folder / "logs").symlink_to("../elsewhere")
    return "logs"


def add_dangling_link(folder: Path) -> str:
    (folder / "dangling").symlink_to("nowhere")
    return "dangling"


def change_manifest(folder: Path) -> str:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes().replace(b"train-2026", b"train-2025"))
    return MANIFEST


def remove_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return MANIFEST


def change_sums(folder: Path) -> str:
    (folder / SUMS).write_bytes((folder / SUMS).read_bytes() + b"\n")
    return SUMS


@pytest.mark.parametrize(
    "tamper",
    [
        *(change, add, remove, replace_by_link, replace_folder_by_link, add_dangling_link),
        *(change_manifest, remove_manifest, change_sums),
    ],
)
def test_any_tampering_is_named_and_stops_the_evacuation_of_the_folder(
    context: RunContext, tamper: Callable[[Path], str]
) -> None:
    made = sealed(context, collected(context, "packages", "logs", "models"))
    name = tamper(context.directory.evidence_dir(1))
    with pytest.raises(Tampered) as raised:
        check_seal.fn(context, [made])
    assert name in str(raised.value)
    assert context.log.entries()[-1]["action"] == "step failed"


LOG = "logs/train-20260101_000000.log"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed for a comparison with a manifest."""
    names = list[str]()

    def digest_and_tell(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr("tasks.custody.store.manifest.digest", digest_and_tell)
    monkeypatch.setattr("tasks.evidence.left_alone._TICK", 0)
    return names


def test_what_this_run_has_copied_is_read_again_only_by_later_runs(small: SmallWorkload, hashed: list[str]) -> None:
    with case_of(small.block()) as context:
        made = sealed(context, collected(context, "logs"))
        check_seal.fn(context, [made])
        assert Path(LOG).name not in hashed
        (context.directory.evidence_dir(1) / LOG).chmod(0o400)
        check_seal.fn(context, [made])
        assert Path(LOG).name in hashed, "whatever was done to it"
    hashed.clear()
    with case_of(small.block()) as context:
        check_seal.fn(context, [made])
        assert Path(LOG).name in hashed


def test_what_an_earlier_run_has_copied_is_read_again_although_this_one_seals_it(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evidence = collected(context, "logs")
        (context.directory.evidence_dir(1) / LOG).write_text("another")
    with case_of(small.block()) as context, pytest.raises(Tampered, match=LOG):
        check_seal.fn(context, [sealed(context, evidence)])


def test_a_copy_that_changed_before_the_seal_is_not_sent_and_named(small: SmallWorkload, hashed: list[str]) -> None:
    with case_of(small.block(), MemoryStore()) as context:
        evidence = collected(context, "logs")
        change(context.directory.evidence_dir(1))
        seals = [sealed(context, evidence)]
        intact = check_seal.fn(context, seals).data
        assert isinstance(intact, Seal)
        assert Path(LOG).name not in hashed
        with pytest.raises(Tampered, match=LOG) as raised:
            offload.fn(context, seals, intact)
        assert not may_pass(raised.value)
        assert context.store.evidence.head(f"incidents/{context.incident.id}/evidence/{LOG}") is None


@pytest.mark.slow
def test_sealing_twice_gives_the_same_seal_and_changes_no_byte(context: RunContext) -> None:
    evidence = collected(context, *NAMES)
    first = sealed(context, evidence)
    before = {path: path.read_bytes() for path in context.directory.evidence_dir(1).rglob("*") if path.is_file()}
    context.log.write("something happens in between")
    assert sealed(context, evidence) == first
    assert sealed(context, []) == first
    assert {
        path: path.read_bytes() for path in context.directory.evidence_dir(1).rglob("*") if path.is_file()
    } == before


def test_what_an_earlier_attempt_left_is_in_the_manifest_with_a_note(context: RunContext) -> None:
    (left,) = collected(context, "logs")
    kept = (context.directory.evidence_dir(1) / "logs/train-20260101_000000.log").read_bytes()
    made = sealed(context, collected(context, "packages"))
    files = {file.stored: file for file in read_manifest(context.directory, 1).files}
    for file in left.files:
        assert files[file.stored] == StoredFile(
            file.stored, "", len(kept), digest_bytes(kept), None, "left by an earlier attempt"
        )
    assert check_seal.fn(context, [made]).data == made


@pytest.mark.slow
def test_a_seal_that_was_killed_half_way_is_made_whole_by_the_next(small: SmallWorkload) -> None:
    # Killed between its last two writes: the segment is there, the manifest not, and beside them half-written ones.
    with case_of(small.block()) as context:
        evidence = collected(context, *NAMES)
        sealed(context, evidence)
        folder, ending = context.directory.evidence_dir(1), f"{0:016}.new"
        (folder / MANIFEST).rename(folder / f".{MANIFEST}.{ending}")
        (folder / f".{SUMS}.{ending}").write_bytes(b"half a li")
    with case_of(small.block()) as context:
        assert context.run.volume == 1
        made = sealed(context, evidence)
        assert check_seal.fn(context, [made]).data == made
        assert broken(segment(context, 1)) == []
        assert {file.stored for file in read_manifest(context.directory, 1).files} == {
            *(file.stored for item in evidence for file in item.files),
            *(COVERAGE, SEGMENT),
        }


def test_a_file_that_two_collectors_took_at_different_times_is_sealed_as_it_lies(small: SmallWorkload) -> None:
    with case_of(small.block(artifacts=["logs/*.log"])) as context:
        evidence = collected(context, "artifacts")
        with (small.root / "logs/train-20260101_000000.log").open("a") as file:
            file.write("iteration 2\n")
        evidence = [*collected(context, "logs"), *evidence]
        made = sealed(context, evidence)
        assert check_seal.fn(context, [made]).data == made


def test_a_file_of_the_workload_named_like_our_own_does_not_touch_ours(small: SmallWorkload) -> None:
    for name in (MANIFEST, "ps_top.txt", "pip_freeze.txt"):
        (small.root / name).write_text("theirs")
    (small.root / COVERAGE).mkdir()
    (small.root / COVERAGE / "x.json").write_text("theirs")
    with case_of(small.block(artifacts=["*", "*/*.json"])) as context:
        made = sealed(context, collected(context, "packages", "artifacts"))
        assert check_seal.fn(context, [made]).data == made
        assert (context.directory.evidence_dir(1) / "pip_freeze.txt").read_text() == "scikit-learn==1.7.2\n"
        theirs = [
            file.stored
            for file in read_manifest(context.directory, 1).files
            if (context.directory.evidence_dir(1) / file.stored).read_bytes() == b"theirs"
        ]
        assert len(theirs) == 4


def test_the_custody_segments_follow_each_other_without_a_gap(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        sealed(context, collected(context, "packages"))
        first = segment(context, 1)
        assert first == context.log.lines()[: len(first)]
        assert broken(first) == []
    with case_of(small.block()) as context:
        sealed(context, collected(context, "logs"), context.run.volume)
        second = segment(context, 2)
        assert broken(second, head(first[-1]), len(first)) == []
        assert first + second == context.log.lines()[: len(first) + len(second)]


@pytest.mark.slow
def test_a_later_run_makes_a_supplement_only_of_something_new(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evidence = collected(context, "packages", "logs")
        assert volumes_to_seal(context.directory, context.run.volume, evidence) == [1]
        assert volumes_to_seal(context.directory, context.run.volume, []) == [1]
        first = sealed(context, evidence)
        before = {path: path.read_bytes() for path in context.directory.evidence_dir(1).rglob("*") if path.is_file()}
    with case_of(small.block()) as context:
        assert context.run.volume == 2
        assert volumes_to_seal(context.directory, context.run.volume, evidence) == [1]
        nothing = Evidence("kernel", False, False, Outcome.DENIED, "no", NOW, NOW, 2)
        assert volumes_to_seal(context.directory, context.run.volume, [*evidence, nothing]) == [1]
        (small.root / "logs/train-20260101_000000.log").write_text("iteration 1\niteration 2\n")
        later = collected(context, "logs")
        assert volumes_to_seal(context.directory, context.run.volume, [evidence[0], *later]) == [1, 2]
        seals = [sealed(context, [evidence[0], *later], volume) for volume in (1, 2)]
        assert seals[0] == first
        assert check_seal.fn(context, seals).data == seals[1]
        assert {
            path: path.read_bytes() for path in context.directory.evidence_dir(1).rglob("*") if path.is_file()
        } == before
        assert {file.stored for file in read_manifest(context.directory, 2).files} == {
            *(COVERAGE, SEGMENT, "logs/train-20260101_000000.log")
        }
    with case_of(small.block()) as context:
        assert context.run.volume == 3


def test_what_a_killed_attempt_moved_into_a_supplement_is_sealed_by_a_run_that_finds_nothing(
    small: SmallWorkload,
) -> None:
    with case_of(small.block()) as context:
        sealed(context, collected(context, "packages"))
    with case_of(small.block()) as context:
        collected(context, "logs")  # and killed before the result was kept
    with case_of(small.block()) as context:
        gone = Evidence("logs", False, True, Outcome.MISSING, "no such file", NOW, NOW, 2)
        assert volumes_to_seal(context.directory, context.run.volume, [gone]) == [1, 2]
        sealed(context, [gone], 2)
        (log,) = [file for file in read_manifest(context.directory, 2).files if file.stored.startswith("logs/")]
        assert log.note == "left by an earlier attempt"


@pytest.mark.slow
def test_the_manifest_is_on_disk_after_all_that_it_promises(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss it stood beside empty copies, and each later run called them altered and sent nothing."""
    evidence, flushed, home = collected(context, *NAMES), flushes(monkeypatch), context.directory.evidence_dir(1)
    sealed(context, evidence)
    before = flushed[: flushed.index(home / f".{MANIFEST}.new")]
    files = {path for path in home.rglob("*") if path.name != MANIFEST}
    assert files | {home, context.log.path} <= set(before)


def test_what_is_cached_as_collected_is_on_disk(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed, home = flushes(monkeypatch), context.directory.evidence_dir(1)
    (logs,) = collected(context, "logs")
    assert {home / file.stored for file in logs.files} <= set(flushed)


@pytest.mark.parametrize("original", [True, False])
def test_a_copy_that_is_gone_before_the_seal_is_sent_from_the_workload_or_lost_and_never_left_out(
    small: SmallWorkload, *, original: bool
) -> None:
    store = MemoryStore()
    with case_of(small.block(), store) as context:
        evidence = collected(context, "packages", "logs")
        (log,) = evidence[1].files
        (context.directory.evidence_dir(1) / log.stored).unlink()
        if not original:
            (small.root / unquote(log.source).decode()).unlink()
        seal_of = sealed(context, evidence)
        assert log.stored in {file.stored for file in read_manifest(context.directory, 1).files}
        sent = made(offload.fn(context, [seal_of], made(check_seal.fn(context, [seal_of]))))
        receipts = made(verify.fn(context, [seal_of], sent)).objects
        key = evidence_key(context.incident.id, 1, log.stored)
        assert (key in {each.key for each in receipts if each.lost}) is not original
        assert all(each.proven or each.lost for each in receipts)


def test_the_digests_of_one_volume_are_not_taken_for_anothers(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evidence = collected(context, "logs")
        first = sealed(context, evidence)
    with case_of(small.block()) as context:
        left = context.directory.evidence_dir(2) / "logs/train-20260101_000000.log"
        left.parent.mkdir(parents=True)
        left.write_text("what a run took that was killed before it could say so")
        seals = [first, sealed(context, [*evidence, *collected(context, "packages")], 2)]
        assert check_seal.fn(context, seals).data == seals[1]
        (file,) = [file for file in read_manifest(context.directory, 2).files if file.stored.startswith("logs/")]
        assert file.note == "left by an earlier attempt"


def test_a_broken_supplement_is_noticed_behind_a_whole_first_volume(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        first = sealed(context, collected(context, "packages"))
    with case_of(small.block()) as context:
        seals = [first, sealed(context, collected(context, "logs"), 2)]
        (context.directory.evidence_dir(2) / "logs/train-20260101_000000.log").write_text("other")
        with pytest.raises(Tampered, match=r"evidence\.2"):
            check_seal.fn(context, seals)
