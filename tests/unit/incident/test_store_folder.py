"""A folder is a store's only if nobody else can change it: otherwise nothing in it is proven, and no verdict green."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.store_fields import StoreFields
from tasks.custody.incident.verdict import Word
from tasks.evidence.collect import collect
from tasks.incident.store_folder import note_own_account, why_not_trusted
from tasks.record.dry_run_plan import needs_attention, plan
from tasks.storage.offload import claim_store
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload

ANOTHER = 12345
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to other accounts")


def theirs(path: Path, user: int = ANOTHER) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, user, -1)
    return path


def shared(path: Path) -> Path:
    path.mkdir(parents=True)
    path.chmod(0o777)
    return path


def linked(folder: Path) -> Path:
    (folder / "link").symlink_to(theirs(folder / "elsewhere"))
    return folder / "link"


def partly(path: Path, part: str) -> Path:
    theirs(path / part)
    return path


PLACES: dict[str, Callable[[SmallWorkload, Path], Path]] = {
    "its own": lambda _, folder: theirs(folder / "vault"),
    "open to all": lambda _, folder: shared(folder / "vault"),
    "below another's": lambda _, folder: theirs(folder / "above") / "vault",
    "behind a link": lambda _, folder: linked(folder),
    "in the root": lambda small, _: small.root / "vault",
    "the root": lambda small, _: small.root,
    "incidents of another's": lambda _, folder: partly(folder / "vault", "incidents"),
    "latest of another's": lambda _, folder: partly(folder / "vault", "latest"),
    "temporary files of another's": lambda _, folder: partly(folder / "vault", ".incoming"),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)
def test_a_folder_that_another_can_change_proves_nothing(
    small: SmallWorkload, tmp_path: Path, signing_key: SigningKey, where: Callable[[SmallWorkload, Path], Path]
) -> None:
    """It ended Verified, and one mv of the workload's account later the audit found nothing."""
    (folder := where(small, tmp_path)).mkdir(exist_ok=True)
    store = EvidenceStore(folder=folder, signing=signing_key)
    assert str(folder) in (why := str(why_not_trusted(store, small.block())))
    assert "give the store a folder" in why
    evidence = tmp_path / "evidence"
    with case_of(small.block(needed=["logs"], evidence_dir=evidence), saved={"folder": str(folder)}) as context:
        context.store.block = store
        recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
    assert recorded.verdict.word is Word.UNVERIFIED
    assert any(why in each for each in recorded.verdict.missing)
    assert [*DirectoryStore(folder).list("incidents/")], "rather there than nowhere"


@pytest.mark.slow
def test_a_folder_of_ours_alone_is_trusted(small: SmallWorkload, tmp_path: Path, signing_key: SigningKey) -> None:
    (folder := tmp_path / "vault").mkdir()
    theirs(folder / "lost+found")
    store = EvidenceStore(folder=folder, signing=signing_key)
    assert (why_not_trusted(store, small.block()), note_own_account(store, small.block())) == (None, "")
    evidence = tmp_path / "evidence"
    with case_of(small.block(needed=["logs"], evidence_dir=evidence), saved={"folder": str(folder)}) as context:
        context.store.block = store
        recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
    assert recorded.verdict.word is Word.VERIFIED


def test_a_plan_foretells_it(small: SmallWorkload, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "vault")
    with case_of(small.block(), saved={"folder": str(folder)}, dry_run=True) as context:
        claim_store.fn(context)
        (row,) = [row for row in plan(context.log.entries()) if row["on"] == str(folder)]
    assert row["act"] == "would not prove what is sent to"
    assert needs_attention(row)


def test_the_owner_of_a_mount_can_be_named(small: SmallWorkload, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "mount") / "vault"
    folder.mkdir()
    os.chown(folder, ANOTHER, -1)
    assert "folder_owner" in str(why_not_trusted(StoreFields(folder=folder), small.block()))
    assert not why_not_trusted(StoreFields(folder=folder, folder_owner=str(ANOTHER)), small.block())
    assert why_not_trusted(StoreFields(folder=folder, folder_owner=str(ANOTHER + 1)), small.block())
    assert why_not_trusted(StoreFields(folder=folder, folder_owner="nobody-of-this-name"), small.block())


def test_the_workloads_account_is_no_owner_to_name(small: SmallWorkload, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "vault")
    os.chown(small.root, ANOTHER, -1)
    store = StoreFields(folder=folder, folder_owner=str(ANOTHER))
    assert "as which the workload runs" in str(why_not_trusted(store, small.block()))
    os.chown(small.root, 0, -1)
    (named := theirs(tmp_path / "other", 65534)).chmod(0o700)
    store = StoreFields(folder=named, folder_owner="nobody")
    assert not why_not_trusted(store, small.block())
    assert "as which the workload runs" in str(why_not_trusted(store, small.block(user="nobody")))


def test_a_run_as_the_workloads_account_says_so(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreFields(folder=theirs(tmp_path / "vault"))
    monkeypatch.setattr(os, "geteuid", lambda: ANOTHER)
    assert note_own_account(store, small.block()) == ""
    os.chown(small.root, ANOTHER, -1)
    assert "as which the workload runs too" in note_own_account(store, small.block())


def test_an_owner_belongs_to_a_folder() -> None:
    with pytest.raises(ValueError, match="folder_owner beside a folder only"):
        StoreFields(bucket="evidence", folder_owner="nobody")
