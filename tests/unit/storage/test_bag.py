"""A bag of an incident: valid by the public validator, of what is promised alone, and it says what an audit said."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bagit
import pytest

from blocks.directory import DirectoryStore
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from flows.cli import run
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit
from tasks.custody.store.manifest import canonical, digest
from tasks.evidence.collect import collect
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import one_run
from tests.support.workloads import SmallWorkload

HOME = f"disk/incidents/{INCIDENT}"
ODD = "trän %41 = %0A ~ \r\n b.log"
"""A name with what manifests of bags encode, as it is and encoded already."""


@pytest.fixture(scope="module")
def incident(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's folder with an incident, its store file, and who may sign."""
    (base := tmp_path_factory.mktemp("bagged")).joinpath("disk").mkdir()
    store = DirectoryStore(base / "disk")
    with SmallWorkload(base / "small") as small, case_of(small.block(), store) as context:
        context.store.block = EvidenceStore(folder=base, signing=signing_key)
        (small.root / "logs" / ODD).write_text("odd\n")
        one_run(context, [made(collect.fn(context, name)) for name in ("logs", "models")])
    (base / "signers").write_text(f"{signing_key.allowed_signers}\n")
    return base


@pytest.fixture
def base(incident: Path, tmp_path: Path) -> Path:
    """A copy of it, and a folder to pull into."""
    shutil.copytree(incident / "disk", tmp_path / "disk")
    shutil.copy(incident / "signers", tmp_path)
    (tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{tmp_path}/disk"\n')
    (tmp_path / "into").mkdir()
    return tmp_path


def bagged(base: Path, *more: str) -> int:
    return run(["pull", f"{base}/store.toml", f"{base}/into", INCIDENT, "--bag", *more])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_public_validator_accepts_a_bag_that_holds_all_that_is_promised_and_nothing_else(base: Path) -> None:
    for name in ("evidence/added.py", "record/001/b.pth", "a"):
        (base / HOME / name).write_text("theirs")
    (base / "apart").mkdir()
    asked = ("--signers", f"{base}/signers", "--organization", "Example AG, Zürich", "--unpromised", f"{base}/apart")
    assert bagged(base, *asked) == 0
    bag = base / "into" / INCIDENT
    command = [sys.executable, "-m", "bagit", "--validate", str(bag)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "is valid" in done.stderr) == (0, True), done.stderr
    there = files(base / HOME) - {"evidence/added.py", "record/001/b.pth", "a"}
    assert files(bag / "data") == {name.replace("%", "=") for name in there}
    assert any("%" in name for name in there)
    assert all(digest(bag / "data" / name.replace("%", "=")) == digest(base / HOME / name) for name in there)
    assert {name.rpartition("/")[2] for name in files(base / "apart")} == {"added.py", "b.pth", "a"}
    tags = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"}
    assert {path.name for path in bag.iterdir()} == {"data", *tags}


def test_bag_info_says_how_by_whom_when_and_what_the_audit_said(base: Path, signing_key: SigningKey) -> None:
    assert bagged(base, "--signers", f"{base}/signers", "--organization", "Example AG\nVerdict: none") == 0
    info = bagit.Bag(f"{base}/into/{INCIDENT}").info
    closing = json.loads((base / HOME / "record/001/closing.json").read_bytes())
    opened = json.loads((base / HOME / "record/001/verdict.json").read_bytes())["incident"]
    assert info["Acquisition-Method"].startswith("ISO/IEC 27037:2012, ")
    assert info["External-Identifier"] == INCIDENT
    assert (info["Record-Closed"], info["Incident-Opened"]) == (closing["closed_utc"], opened["opened_at"])
    assert info["Audit"].startswith("PROVEN, a copy of ")
    assert signing_key.fingerprint in info["Audit"]
    assert info["Verdict"] == closing["verdict"]
    assert "Verdict: none" in info["Source-Organization"]
    assert len(info["Not-Proven"]) > 1


def test_a_bag_whose_files_are_changed_is_not_valid(base: Path) -> None:
    assert bagged(base) == 0
    bag = bagit.Bag(f"{base}/into/{INCIDENT}")
    assert bag.is_valid()
    assert bag.info["Audit"].startswith("INDETERMINATE, a copy of ")
    assert bag.info["Source-Organization"] == "not stated"
    for name in ("data/claim.json", "bag-info.txt"):
        path = base / "into" / INCIDENT / name
        before = path.read_bytes()
        path.write_bytes(before[:-1])
        assert not bagit.Bag(f"{base}/into/{INCIDENT}").is_valid()
        path.write_bytes(before)


def drop_model(home: Path) -> None:
    next((home / "evidence/models").iterdir()).unlink()


def forge_log(home: Path) -> None:
    next((home / "evidence/logs").iterdir()).write_text("forged")


def claim_more(home: Path) -> None:
    path = home / "record/001/verdict.json"
    path.write_bytes(canonical({**json.loads(path.read_bytes()), "objects": []}))


def drop_closing(home: Path) -> None:
    for name in ("closing.json", "closing.json.sig"):
        (home / "record/001" / name).unlink()


@pytest.mark.parametrize("change", [drop_model, forge_log, claim_more, drop_closing])
def test_no_bag_is_made_of_what_an_audit_contradicts(
    base: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    change(base / HOME)
    assert bagged(base, "--signers", f"{base}/signers") == 2
    assert "expected an incident that nothing contradicts" in capsys.readouterr().err
    assert not list((base / "into").iterdir())


def test_what_is_lost_between_audit_and_pull_leaves_no_bag(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def then(*given: Any, **more: Any) -> Audit:
        found = verify_incident(*given, **more)
        forge_log(base / HOME)
        return found

    monkeypatch.setattr("tasks.cli.latest.verify_incident", then)
    assert bagged(base) == 1
    assert "there is no bag" in capsys.readouterr().out
    assert {path.name for path in (base / "into" / INCIDENT).iterdir()} == {INCIDENT}


@pytest.mark.parametrize("what", ["latest", "20260102T030405Z", "IR-1", "IR-../../x"])
def test_a_bag_is_of_one_incident(base: Path, what: str) -> None:
    assert run(["pull", f"{base}/store.toml", f"{base}/into", what, "--bag"]) == 2
    assert not list((base / "into").iterdir())


@pytest.mark.parametrize("option", ["--organization", "--signers", "--tsa-roots"])
def test_what_is_for_a_bag_is_refused_without_one(base: Path, option: str) -> None:
    assert run(["pull", f"{base}/store.toml", f"{base}/into", INCIDENT, option, f"{base}/signers"]) == 2
    assert not list((base / "into").iterdir())


def test_what_lies_where_the_bag_goes_does_not_become_part_of_it(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (base / "into" / INCIDENT).symlink_to(base)
    assert bagged(base) == 2
    (base / "into" / INCIDENT).unlink()
    (base / "into" / INCIDENT / "data").mkdir(parents=True)
    assert bagged(base) == 2
    assert "where the bag goes" in capsys.readouterr().err
