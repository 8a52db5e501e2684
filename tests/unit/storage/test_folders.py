"""Whole folders of a workload whose files the code does not name: away, proven, and back byte for byte (runbook §5)."""

import bz2
import gzip
import json
import os
import pickle
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from tasks.acquisition import content, copying
from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Taken, Target
from tasks.collectors import discover, folders
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.evidence.coverage import statement
from tasks.custody.evidence.keys import quote, snapshot_folder
from tasks.custody.store.objects import Expected, evidence_first, snapshot_objects
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, seal
from tasks.latest.pull import pull
from tasks.models.inspect import judge_models
from tasks.runtime.context import RunContext
from tasks.storage import uploader
from tasks.storage.offload import claim_store, offload
from tasks.storage.verify import verify
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import one_run
from tests.support.workloads import SmallWorkload

FOLDERS = ("models", "artifacts", "logs")
SNAPSHOT = "20260102T030405Z"
PATTERNS = ["models/model_*.joblib", "models/**/*.bin"]
ODD = {
    "models/preprocessor.joblib": pickle.dumps({"mean": [1.5, 2.5]}),
    "models/MODEL_CARD.md": b"# Card\n",
    "models/.gitkeep": b"",
    "models/2026/encoder v2/weights.bin": bytes(range(256)) * 40,
    "models/tokens": b"cat\ndog\n",
    "artifacts/metrics.json": b'{"auc": 0.9}\n',
    "artifacts/events.json": b'{"a": 1}\n{"b": 2}\n',
    "artifacts/manifest.json": b"{}\n",
    "artifacts/r\xe9sum\xe9%20/not utf-8.parquet": b"PAR1" + b"\0" * 64,
    "artifacts/old/run.tar.gz": gzip.compress(b"not a model"),
    "artifacts/x^2.txt": b"x^2 + 1\n",
    "logs/train.log.1": b"older\n",
    "logs/train.log.2.bz2": bz2.compress(b"loss " + os.urandom(400_000).hex().encode()),
    "logs/api/access": b"GET /\n",
    "logs/.hidden/empty": b"",
}


def tree(root: Path) -> dict[str, bytes]:
    """Every regular file of the three folders, by name."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in FOLDERS
        for path in (root / name).rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / os.fsdecode(name.encode("latin-1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def every(context: RunContext) -> list[Evidence]:
    return [made(collect.fn(context, name)) for name in ("logs", "artifacts", "models", "folders")]


def rest(context: RunContext) -> Evidence:
    found: Evidence = made(collect.fn(context, "folders"))
    return found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallWorkload]:
    with SmallWorkload(tmp_path / "work load") as workload:
        yield workload


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / "store").mkdir()
    return DirectoryStore(tmp_path / "store")


def whole_run(context: RunContext) -> None:
    evidence = every(context)
    judge_models.fn(context, evidence)
    one_run(context, evidence)


@pytest.mark.slow
def test_the_folders_come_back_byte_for_byte_from_latest_and_from_the_snapshot(
    small: SmallWorkload, store: DirectoryStore, tmp_path: Path
) -> None:
    put(small.root, ODD)
    with case_of(small.block(needed=["folders", "models"], models=PATTERNS, model_formats=[".bin"]), store) as context:
        whole_run(context)
    for what in ("latest", SNAPSHOT):
        back = tmp_path / f"back of {what}"
        back.mkdir()
        told = pull(store, what, back)
        assert told.is_complete, told.summary
        assert tree(back) == tree(small.root)
    assert len(tree(back)) >= len(ODD) + 3


@pytest.mark.slow
def test_what_is_like_a_model_by_content_stays_out_of_latest_whatever_its_name(
    small: SmallWorkload, store: DirectoryStore
) -> None:
    bad = b"\x80\x04cos\nsystem\n\x8c\x02id\x85R."
    archive = small.root / "models/net.bin"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("archive/data.pkl", bad)
    hidden = {
        "artifacts/notes.txt": bad,
        "logs/old.log.gz": gzip.compress(bad),
        "logs/old.log.bz2": bz2.compress(bad),
        "models/table.npy": b"\x93NUMPY\x01\0v\0{'descr': '|O', }" + bad,
    }
    put(small.root, hidden)
    with case_of(small.block(needed=["folders", "models"]), store) as context:
        whole_run(context)
    for name in (*hidden, "models/net.bin"):
        assert store.head(snapshot_folder(SNAPSHOT) + name), name
        assert not store.head(f"latest/{name}"), name


@pytest.mark.slow
def test_each_file_that_is_left_out_is_named_with_its_reason(small: SmallWorkload, tmp_path: Path) -> None:
    root, outside = small.root, tmp_path / "outside"
    outside.write_text("not of the workload")
    put(root, {"models/huge.bin": b"x" * (1 << 20) + b"y", "models/just.bin": b"x" * (1 << 20)})
    (root / "logs/away").symlink_to(outside)
    (root / "logs/nothing").symlink_to("gone")
    (root / "logs/loop").symlink_to("loop")
    (root / "models/again.bin").symlink_to("just.bin")
    os.mkfifo(root / "logs/pipe")
    with socket.socket(socket.AF_UNIX) as listening, case_of(small.block(folder_file_mb=1)) as context:
        here = os.open(root / "logs", os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)
        found = rest(context)
    why = {loss.source: (loss.outcome, loss.reason) for loss in found.losses}
    assert {name: outcome for name, (outcome, _) in why.items()} == {
        "logs/away": Outcome.DENIED,
        "logs/nothing": Outcome.FAILED,
        "logs/loop": Outcome.DENIED,
        "logs/pipe": Outcome.WITHHELD,
        "logs/sock": Outcome.WITHHELD,
        "models/huge.bin": Outcome.WITHHELD,
    }
    assert why["models/huge.bin"][1].startswith("1048577 bytes, above the 1048576 ")
    assert found.lost
    names = {file.stored: file.note for file in found.files}
    assert names["models/again.bin"] == "a link to models/just.bin"
    told = statement("IR-1", 1, [found], {})
    assert {each["source"] for kind in told["losses"].values() for each in kind} == set(why)


@pytest.mark.parametrize(
    "left_out", [lambda root: os.mkfifo(root / "logs/pipe"), lambda root: put(root, {"models/b.bin": b"x" * (1 << 21)})]
)
def test_what_the_block_leaves_out_and_what_has_no_content_is_no_loss(small: SmallWorkload, left_out: object) -> None:
    left_out(small.root)  # type: ignore[operator]
    with case_of(small.block(folder_file_mb=1)) as context:
        found = rest(context)
    assert len(found.losses) == 1
    assert not found.lost


@pytest.mark.parametrize(("may_be_missing", "lost"), [([], True), (["folders"], False)])
def test_a_folder_that_the_block_names_and_that_is_not_there_is_a_loss(
    small: SmallWorkload, may_be_missing: list[str], *, lost: bool
) -> None:
    with case_of(small.block(folders=["models", "artefacts"], may_be_missing=may_be_missing)) as context:
        found = rest(context)
    assert found.lost is lost
    assert [each.source for each in found.losses] == ["artefacts"] * lost


@pytest.mark.parametrize("absent", [("models", "artifacts", "logs"), ("artifacts",), ()])
def test_a_folder_that_is_not_there_or_has_nothing_more_is_no_loss(
    small: SmallWorkload, absent: tuple[str, ...]
) -> None:
    for name in absent:
        (small.root / name).rename(small.root / f"{name}-before")
    with case_of(small.block()) as context:
        found = rest(context)
    assert (found.outcome, found.losses, found.lost) == (Outcome.EMPTY, (), False)


def test_what_changes_while_it_is_read_is_kept_and_named(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    put(small.root, {"models/busy.bin": b"before", "models/calm.bin": b"calm"})
    read = content.read_once

    def meanwhile(*asked: object, **more: object) -> object:
        done = read(*asked, **more)  # type: ignore[arg-type]
        if done.size == len(b"before"):
            (small.root / "models/busy.bin").write_bytes(b"behind")
        return done

    monkeypatch.setattr(copying, "read_once", meanwhile)
    globs = {"logs": [], "artifacts": [], "models": ["models/model_*"], "folders": ["models"]}
    target = Target("IR-1", str(small.root), "python", os.getuid(), globs, [])
    folder = small.root / "evidence"
    folder.mkdir(exist_ok=True)
    items = list(take(discover()["folders"].sources, target, folder))
    assert {item.file.stored for item in items if isinstance(item, Taken)} == {"models/busy.bin", "models/calm.bin"}
    (loss,) = [item for item in items if not isinstance(item, Taken)]
    assert getattr(loss, "source", "") == "models/busy.bin"
    assert "it changed while it was read" in getattr(loss, "reason", "")


def test_secrets_are_withheld_here_as_anywhere(small: SmallWorkload) -> None:
    put(small.root, {"artifacts/notes": b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"})
    with case_of(small.block(sensitive="withhold")) as context:
        found = rest(context)
    (loss,) = found.losses
    assert (loss.source, loss.outcome, found.files, found.lost) == ("artifacts/notes", Outcome.WITHHELD, (), False)


def test_the_evacuations_own_folder_is_no_part_of_the_workload(small: SmallWorkload) -> None:
    put(small.root, {"logs/more": b"more"})
    (small.root / "logs/link").symlink_to("evidence")
    with case_of(small.block(evidence_dir=small.root / "logs/evidence")) as context:
        found = rest(context)
    assert [file.stored for file in found.files] == ["logs/more"]


@pytest.mark.slow
def test_a_folder_that_the_block_names_goes_to_the_snapshot_and_to_latest(
    small: SmallWorkload, store: DirectoryStore, tmp_path: Path
) -> None:
    put(
        small.root,
        {"reports/q1/table.xls": b"\xd0\xcf\x11\xe0table", "artifacts/more": b"stays evidence of no pattern"},
    )
    with case_of(small.block(folders=["reports", "models"], needed=["folders"]), store) as context:
        whole_run(context)
        manifest = read_manifest(context.directory, 1)
    assert json.loads(manifest.to_bytes())["folders"] == ["reports", "models"]
    (tmp_path / "back").mkdir()
    assert pull(store, "latest", tmp_path / "back").is_complete
    assert (tmp_path / "back/reports/q1/table.xls").read_bytes() == b"\xd0\xcf\x11\xe0table"
    assert not (tmp_path / "back/artifacts/more").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/models", "models*", ".cache", "containers", "attempt-1", "é"])
def test_a_name_that_is_no_folder_of_the_root_is_refused(small: SmallWorkload, name: str) -> None:
    with pytest.raises(ValueError, match="expected a folder's name in the root"):
        small.block(folders=[name])


@pytest.mark.slow
def test_evidence_is_sent_before_what_goes_along(
    small: SmallWorkload, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (small.root / "models/model_builtin.joblib").read_bytes()
    put(small.root, {"logs/a": b"first by name", "models/same": model})
    sent = list[str]()
    done = uploader.Delivery._finish

    def noted(self: uploader.Delivery, item: Expected, way: str, size: int | None = None) -> bool:
        sent.append(item.key)
        return done(self, item, way, size)

    monkeypatch.setattr(uploader.Delivery, "_finish", noted)
    with case_of(small.block(), store) as context:
        evidence = every(context)
        claim_store.fn(context)
        one = made(seal.fn(context, 1, evidence))
        away = made(offload.fn(context, (one,), made(check_seal.fn(context, (one,)))))
        receipts = made(verify.fn(context, (one,), away))
        manifest = read_manifest(context.directory, 1)
    block = small.block()
    first, along = evidence_first(manifest, [*block.logs, *block.artifacts, *block.models])
    assert {item.stored_name for item in along} == {"logs/a", "models/same"}
    assert max(sent.index(item.key) for item in first) < min(sent.index(item.key) for item in along)
    proven = {each.key for each in receipts.objects if each.proven}
    assert {item.key for item in (*along, *snapshot_objects(manifest, SNAPSHOT))} <= proven


@pytest.mark.slow
def test_an_empty_file_goes_where_nothing_is_and_takes_no_good_ones_place(
    small: SmallWorkload, store: DirectoryStore, tmp_path: Path
) -> None:
    put(small.root, {"logs/a": b"", "logs/b": b""})
    put(tmp_path / "store", {"latest/logs/a": b"good"})
    with case_of(small.block(needed=["folders"]), store) as context:
        whole_run(context)
    assert [there.size for name in "ab" if (there := store.head(f"latest/logs/{name}"))] == [4, 0]


@pytest.mark.slow
def test_a_pattern_still_says_what_is_evidence_and_who_takes_it(small: SmallWorkload) -> None:
    put(small.root, ODD)
    with case_of(small.block()) as context:
        of = {item.collector: {file.source for file in item.files} for item in every(context)}
    names = set(map(quote, map(os.fsencode, tree(small.root))))
    assert set.union(*of.values()) == names
    assert sum(map(len, of.values())) == len(names)


def test_more_files_than_a_manifest_should_hold_are_a_loss_and_cost_no_evidence(small: SmallWorkload) -> None:
    put(small.root, {f"logs/{number}": b"x" for number in range(5)})
    globs = {"logs": ["logs/*.log"], "artifacts": [], "models": [], "folders": ["logs"]}
    few = replace(folders.COLLECTOR, sources=(replace(folders.COLLECTOR.sources[0], max_files=3),))  # type: ignore[arg-type]
    (small.root / "evidence").mkdir(exist_ok=True)
    target = Target("IR-1", str(small.root), "python", os.getuid(), globs, [])
    *_, last = take(few.sources, target, small.root / "evidence")
    assert (getattr(last, "outcome", None), getattr(last, "reason", "")) == (
        Outcome.TRUNCATED,
        "the first 3 of 5 files",
    )
