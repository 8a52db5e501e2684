"""After an upgrade: what version 0.1 has left is carried on, reported, released, audited and brought back."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.file import store as store_block
from blocks.port import Store
from blocks.store import EvidenceStore
from flows.commands import invoke
from flows.evacuate import evacuate
from flows.recover import recover
from tasks.adapters.host import LinuxHost
from tasks.audit.verify import audited
from tasks.cli.status import status
from tasks.cli.uncordon import let_go
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Refused
from tasks.custody.incident.log import broken
from tasks.custody.store.manifest import digest, digest_bytes
from tasks.storage.restore import pull
from tasks.storage.rollback import Undoing, rollback
from tests.e2e.upgrade.version_0_1 import INCIDENTS, Left, left
from tests.support.deliveries import bad, proven, run_on, sent
from tests.support.holdings import Unheard
from tests.support.workloads import wait_until

NAME = "portfolio"
EVERY = pytest.mark.parametrize("name", INCIDENTS)
REBOOTED = pytest.mark.parametrize("rebooted", [pytest.param(False, marks=pytest.mark.soak), True])


@pytest.fixture
def verified() -> Iterator[Left]:
    with left("verified") as it:
        yield it


def told(it: Left) -> dict[str, str]:
    lines = [line.partition(" ") for line in status(it.workload, LinuxHost(root=it.workload.root))]
    return {name: text.strip() for name, _, text in lines}


def entries(it: Left) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (it.home / "custody.jsonl").read_text().splitlines()]


def as_they_lie(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Which file has each name, when it was written, and what it holds; none of those that are half written."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".incoming" not in path.parts)
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, digest(path)) for path in paths}


def latest_of(store: Store) -> dict[str, str]:
    return {each.key: digest_bytes(store.read(each.key)) for each in store.list("latest/")}


def save(it: Left) -> None:
    """The operator's file, saved on the server."""
    it.workload.save(NAME, overwrite=True)
    EvidenceStore(**dict(store_block(it.file))).save(NAME, overwrite=True)


@EVERY
def test_it_is_as_private_as_it_was(name: str) -> None:
    with left(name) as it:
        for path, mode in ((it.home, 0o700), (it.home / "custody.jsonl", 0o600)):
            assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (mode, os.geteuid())


@REBOOTED
@EVERY
def test_its_status_is_told(name: str, rebooted: bool) -> None:  # noqa: FBT001
    with left(name, rebooted=rebooted) as it:
        seen = told(it)
        done = name == "verified"
        assert seen["incident"] == f"{it.incident}  {'VERIFIED' if done else 'not finished'}"
        assert seen["cordon"].startswith("marker without a guard")
        assert f" for {it.incident}: " in seen["cordon"]
        assert seen["workload"] == "nothing of it runs"
        assert ("bring the API back" if done else "carry the incident on") in seen["next"]
        assert any(
            f"incident_id={it.incident}" in line for line in status(it.workload, LinuxHost(root=it.workload.root))
        )


@REBOOTED
@EVERY
def test_its_cordon_is_released_once_and_whoever_has_its_pids_now_is_left_alone(name: str, rebooted: bool) -> None:  # noqa: FBT001
    with left(name, rebooted=rebooted) as it:
        stranger = psutil.Process(it.small.start(["sleep", "600"]).pid)
        stranger.suspend()
        wait_until(lambda: stranger.status() == psutil.STATUS_STOPPED, what="its stop")
        for path in it.workload.evidence.rglob("*.json*"):
            if re.match(r"(caught|early|frozen|stopped)-|cordon", path.name):
                path.write_text(re.sub(r'"pid": ?\d+', f'"pid": {stranger.pid}', path.read_text()))
        lines = list(let_go(it.workload, LinuxHost(root=it.workload.root)))
        assert any("the lock is free" in line for line in lines)
        assert not it.marker.exists()
        assert not LinuxHost().refuses(it.workload.lock)
        assert entries(it)[-1]["action"] == "uncordoned"
        assert stranger.status() == psutil.STATUS_STOPPED
        if rebooted or name != "before-the-freeze":
            assert list(let_go(it.workload, LinuxHost(root=it.workload.root))) == ["no cordon stands; nothing was done"]


@EVERY
def test_a_guard_of_it_that_stands_is_known_told_and_released(name: str) -> None:
    with left(name) as it:
        guard = it.stand_guard()
        assert told(it)["cordon"].startswith(f"guard {guard.pid} holds {it.workload.lock}")
        newcomer = it.small.start(WORKERS="0")
        wait_until(lambda: "held" in told(it), what="the old guard's catch")
        first = "\n".join(let_go(it.workload, LinuxHost(root=it.workload.root)))
        assert "the lock is free" in first
        assert f"process {newcomer.pid} " in first
        assert it.guards() == []
        assert it.small.living() == []
        assert not LinuxHost().refuses(it.workload.lock)


def test_what_was_half_sent_is_sent_on_and_nothing_twice() -> None:
    with left("half-sent") as it:
        folder = Path(it.store.place)
        there, sealed = as_they_lie(folder), as_they_lie(it.home / "evidence")
        assert not any(name.endswith("/manifest.json") for name in there)
        with run_on(it.workload, it.store, it.incident) as (context, seals):
            done = sent(context, seals)
            assert bad(proven(context, seals, read_back=True)) == []
        assert 0 < done.sent < done.size
        assert there.items() < as_they_lie(folder).items()
        assert as_they_lie(it.home / "evidence") == sealed
        assert not any((folder / ".incoming").iterdir())


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("half-sent", "a guard"),
        pytest.param("half-sent", "a reboot", marks=pytest.mark.soak),
        pytest.param("in-the-grace", "nothing", marks=pytest.mark.soak),
        pytest.param("in-the-grace", "new life", marks=pytest.mark.soak),
        ("in-the-grace", "a reboot"),
        ("before-the-freeze", "new life"),
    ],
)
def test_a_run_carries_it_on_to_verified_and_repeats_nothing(name: str, since: str) -> None:
    with left(name, rebooted=since == "a reboot") as it:
        stored, kept = as_they_lie(Path(it.store.place)), as_they_lie(it.home / "evidence")
        results = list(it.home.glob("results/IR-*"))
        if since == "a guard":
            it.stand_guard()
        elif since == "new life":
            it.small.start_all()
        save(it)
        state = evacuate(NAME, NAME, return_state=True)
        assert state.name == "Verified", state.message
        assert it.small.living() == []
        assert told(it)["incident"] == f"{it.incident}  VERIFIED"
        assert stored.items() < as_they_lie(Path(it.store.place)).items()
        if name == "half-sent":
            assert kept.items() == as_they_lie(it.home / "evidence").items()
        if since in {"nothing", "a guard"}:
            assert sum(entry["action"] == "step cached" for entry in entries(it)) == len(results)
        (guard,) = it.guards()
        assert told(it)["cordon"].startswith(f"guard {guard.pid} holds ")
        found = audited(it.store, it.incident, None, deep=True)
        assert {each.what for each in found.findings} == {"it is not signed"}, found.findings
        if since != "a reboot" and name != "before-the-freeze":
            record = json.loads((it.home / "record/001/verdict.json").read_bytes())
            receipts = [process["identity"] for process in record["stop"]["processes"]]
            assert all(process["identity"] in receipts for process in it.journal("frozen"))


def test_its_audit_holds_by_hand(verified: Left, capsys: pytest.CaptureFixture[str]) -> None:
    signers = ["--signers", str(verified.file.with_name("signers"))]
    assert invoke(["audit", str(verified.file), verified.incident, "--deep", *signers]) == 0
    assert capsys.readouterr().out.startswith(f"PROVEN  {verified.incident} in {verified.store.place}\n")
    assert invoke(["audit", str(verified.file)]) == 0
    assert " VERIFIED  1        yes " in capsys.readouterr().out


def test_an_audit_says_of_what_was_not_finished_that_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("half-sent", "in-the-grace"):
        with left(name) as it:
            assert invoke(["audit", str(it.file), it.incident]) == 12
            assert invoke(["audit", str(it.file)]) == 0
            assert " not closed " in capsys.readouterr().out
    with left("before-the-freeze") as it, pytest.raises(Refused, match=it.incident):
        invoke(["audit", str(it.file), it.incident])


def test_in_a_bucket_the_same_objects_are_audited_and_pulled(verified: Left, store: Store, tmp_path: Path) -> None:
    for each in verified.store.list(""):
        data = verified.store.read(each.key)
        store.create(each.key, data, digest_bytes(data))
    signers = read_signers(verified.file.with_name("signers").read_text())
    found = audited(store, verified.incident, signers, deep=False)
    assert found.is_complete, found.findings
    assert pull(store, "latest", tmp_path).is_complete


@pytest.mark.parametrize("what", ["latest", "the incident", "the snapshot"])
def test_what_it_stored_is_pulled(verified: Left, tmp_path: Path, what: str) -> None:
    named = {"the incident": verified.incident, "the snapshot": verified.incident.removeprefix("IR-")}
    made = pull(verified.store, named.get(what, what), tmp_path)
    assert made.is_complete, made.summary
    model = next(tmp_path.rglob("model_builtin.joblib"))
    assert model.read_bytes() == (verified.small.root / "models/model_builtin.joblib").read_bytes()


def test_its_turn_of_latest_is_undone_and_done_again(verified: Left) -> None:
    before = latest_of(verified.store)
    assert len(before) == 4
    assert rollback(verified.store, Undoing("root"), Unheard()).is_complete
    assert latest_of(verified.store) == {}
    assert rollback(verified.store, Undoing("root"), Unheard()).is_complete
    assert latest_of(verified.store) == before


@pytest.mark.usefixtures("prefect")
def test_its_api_is_brought_back(verified: Left) -> None:
    save(verified)
    state = recover(NAME, NAME, return_state=True)
    assert state.name == "Recovered", state.message
    assert len(verified.small.living()) == 1
    assert not LinuxHost().refuses(verified.workload.lock)
    segments = [verified.home / name / "custody.jsonl" for name in ("evidence", "record/001", "record/002")]
    assert broken([line for path in segments for line in path.read_bytes().splitlines(keepends=True)]) == []
