"""The store's contract, and a whole incident, on Ceph's gateway, which keeps other promises than SeaweedFS."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.custody.store.promises import Promises
from tasks.host.host import LinuxHost
from tests.integration.s3 import test_store_contract as contract
from tests.support.round_trip import require_back_and_undone
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole


def _of_any_store(name: str, test: Any) -> bool:
    """Whether a test of the contract takes a store; the one of 5 GiB is more than this one's memory."""
    taken = test.__code__.co_varnames[: test.__code__.co_argcount] if name.startswith("test_") else ()
    return "store" in taken and "soak" not in {mark.name for mark in getattr(test, "pytestmark", ())}


globals().update({name: test for name, test in vars(contract).items() if _of_any_store(name, test)})


@pytest.fixture
def scene(prefect: None, small: SmallWorkload, ceph_block: EvidenceStore) -> Iterator[Scene]:  # noqa: ARG001  a fixture cannot be marked
    """A workload whose evidence goes there."""
    assert not isinstance(ceph_block.credentials, str)
    if ceph_block.credentials:
        ceph_block.credentials.save(f"c{uuid4().hex[:12]}")
    made = Scene(small, ceph_block)
    yield made
    LinuxHost().release(made.block.evidence / "cordon.json")


def test_the_canary_sees_what_this_store_does(ceph_block: EvidenceStore) -> None:
    versions = bool(ceph_block.lock)
    kept = Promises(refuses=False, tells=False, puts=not versions, copies=False, parts=False, locks=True)
    seen = ceph_block.open().promises()
    assert replace(seen, refuses_parts=kept.refuses_parts) == kept


def test_an_incident_is_verified_carried_on_promoted_rolled_back_audited_and_pulled(
    scene: Scene, tmp_path: Path
) -> None:
    scene.small.start_all()
    model = scene.small.root / "models/model_builtin.joblib"
    first = model.read_bytes()
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    incident = scene.home.name
    assert "every byte is read back" in (scene.home / "record/001/verdict.json").read_text()
    again = scene.evacuate(incident_id=incident)
    assert again.name == "Verified", again.message
    audit = verify_incident(scene.store, incident, None, deep=False)
    assert audit.word is not AuditWord.BROKEN, audit.summary
    require_back_and_undone(scene, incident, first, tmp_path)
