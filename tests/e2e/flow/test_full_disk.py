"""The whole evacuation where the evidence disk is full, a real one: contained, saved, proven, and on record."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.store import EvidenceStore
from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.acquisition import IN_PLACE
from tasks.host.guard_config import GuardConfig
from tasks.host.host import LinuxHost
from tasks.incident.directory import cordon_base
from tasks.incident.layout import CORDON
from tests.support.scenes import Scene
from tests.support.small_disks import MIB, fill, small_disk
from tests.support.workloads import free_port

pytestmark = pytest.mark.whole

MODEL = "models/model_big.joblib"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "evidence disk", 24) as mounted:
        yield mounted


@pytest.fixture
def full(scene: Scene, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A workload at work, whose evidence disk is about to be full."""
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr("tasks.incident.layout.MEMORY", tmp_path / "memory")
    (scene.small.root / MODEL).write_bytes(b"\x80\x04" + os.urandom(20 * MIB) + b".")
    scene.save(workload=scene.small.block(evidence_dir=disk / "incidents", reserve_mb=8))
    scene.small.start_all()
    yield scene
    LinuxHost().release(cordon_base(scene.block) / CORDON)


def items(home: Path) -> dict[str, dict[str, object]]:
    return {item["path"]: item for item in json.loads((home / "evidence/manifest.json").read_bytes())["items"]}


@pytest.mark.soak
def test_a_model_for_which_there_is_no_room_is_sent_from_where_it_lies(full: Scene) -> None:
    state = full.evacuate()
    assert state.name == "Verified", state.message
    assert full.small.living() == []
    assert items(full.home)[MODEL]["where"] == IN_PLACE
    assert full.store.head(f"incidents/{full.home.name}/evidence/{MODEL}")
    assert full.store.head(f"snapshots/{full.home.name.removeprefix('IR-')}/{MODEL}")
    assert full.store.head(f"incidents/{full.home.name}/record/001/closing.json")


@pytest.mark.soak
def test_one_that_changed_before_it_was_sent_is_lost_and_all_the_rest_is_proven(full: Scene) -> None:
    good = full.store_block
    full.save(store=EvidenceStore(**dict(good) | {"endpoint": f"http://127.0.0.1:{free_port()}"}))
    assert full.evacuate().name == "Unverified"
    (full.small.root / MODEL).write_bytes(b"another one")
    full.save(store=good)
    state = full.evacuate()
    assert state.name == "Partial", state.message
    assert f"evidence/{MODEL}" in str(state.message)
    told = json.loads((full.home / "record/002/verdict.json").read_bytes())
    assert [receipt["key"] for receipt in told["objects"] if not receipt["proven"]] == [
        f"incidents/{full.home.name}/evidence/{MODEL}",
        f"snapshots/{full.home.name.removeprefix('IR-')}/{MODEL}",
    ]
    assert full.store.head(f"incidents/{full.home.name}/evidence/manifest.json")
    assert full.store.head(f"incidents/{full.home.name}/record/002/closing.json")
    again = full.evacuate(incident_id=full.home.name)
    assert again.name == "Partial", again.message
    anew = f"incidents/{full.home.name}/evidence.2/{MODEL}"
    assert full.store.read(anew) == b"another one", "what it is now is collected into a supplement"


@pytest.mark.soak
def test_with_a_fallback_disk_nothing_is_left_in_the_workloads_hands(full: Scene, tmp_path: Path) -> None:
    (tmp_path / "other disk").mkdir()
    full.save(workload=full.block.model_copy(update={"fallback_dir": tmp_path / "other disk"}))
    state = full.evacuate()
    assert state.name == "Verified", state.message
    where = Path(str(items(full.home)[MODEL]["where"]))
    assert (where / MODEL).read_bytes() == (full.small.root / MODEL).read_bytes()
    (full.small.root / MODEL).unlink()
    again = full.evacuate(incident_id=full.home.name)
    assert again.name in {"Verified", "Partial"}, again.message
    assert full.store.head(f"incidents/{full.home.name}/evidence/{MODEL}")


@pytest.mark.soak
def test_on_a_disk_without_a_byte_the_incident_lives_on_the_fallback_disk(
    full: Scene, disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "other disk").mkdir()
    full.save(workload=full.block.model_copy(update={"fallback_dir": tmp_path / "other disk"}))
    full.block.evidence.mkdir()
    fill(disk)
    state = full.evacuate()
    assert state.name == "Verified", state.message
    assert full.small.living() == []
    assert full.incidents == []
    (home,) = (tmp_path / "other disk").glob("*/IR-*")
    assert (home / "record/001/closing.json").exists()
    assert (home / "evidence" / MODEL).exists()
    again = full.evacuate(incident_id=home.name)
    assert again.name == "Verified", again.message
    assert (home / "record/002/closing.json").exists()


@pytest.mark.soak
def test_without_any_other_disk_it_contains_all_the_same_and_keeps_its_record_in_memory(
    full: Scene, disk: Path, tmp_path: Path
) -> None:
    full.block.evidence.mkdir()
    fill(disk)
    state = full.evacuate()
    assert full.small.living() == []
    assert state.name == "Verified", state.message
    (home,) = (tmp_path / "memory").glob("*/IR-*")
    assert (home / "record/001/closing.json").exists()
    assert items(home)[MODEL]["where"] == IN_PLACE
    assert full.store.head(f"incidents/{home.name}/record/001/closing.json")


def test_where_no_folder_takes_anything_it_is_contained_and_what_was_lost_is_told(
    full: Scene, disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full.block.evidence.mkdir()
    fill(disk)
    (tmp_path / "memory").rmdir()
    guards: list[Identity] = []
    with small_disk(tmp_path / "memory", 1) as memory, pytest.MonkeyPatch.context() as patched:
        fill(memory)
        hold = LinuxHost.hold

        def noted(self: LinuxHost, orders: GuardConfig) -> Identity:
            guards.append(hold(self, orders))
            return guards[-1]

        patched.setattr(LinuxHost, "hold", noted)
        state = full.evacuate()
        assert full.small.living() == []
        assert LinuxHost().refuses(full.block.lock)
    assert state.name == "Unverified", state.message
    assert "the workload is contained" in str(state.message)
    assert "nothing of this incident was kept" in str(state.message)
    assert f"the guard, process {guards[0].pid}, holds the lock" in str(state.message)
    assert "nothing of this incident was kept" in caplog.text
    for guard in guards:
        LinuxHost().signal(guard, signal.SIGTERM)
        assert not LinuxHost().wait_gone([guard], 10)


@pytest.mark.soak
def test_a_disk_that_somebody_fills_while_the_run_is_at_work(
    full: Scene, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.custody.incident.log import CustodyLog

    write, filled = CustodyLog.write, list[Path]()

    def write_and_fill(self: CustodyLog, action: str, subject: str = "", **facts: object) -> None:
        if action == "step done" and subject.startswith("§2 freeze") and not filled:
            filled.append(fill(disk))
        write(self, action, subject, **facts)

    monkeypatch.setattr(CustodyLog, "write", write_and_fill)
    state = full.evacuate()
    assert filled
    assert full.small.living() == []
    assert state.name == "Verified", state.message
    assert (full.home / "record/001/closing.json").exists()
    assert full.store.head(f"incidents/{full.home.name}/record/001/closing.json")
