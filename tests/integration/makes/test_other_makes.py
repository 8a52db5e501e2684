"""A whole incident in stores that keep fewer promises than S3: each ends in the word that is so there."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.adapters.host import LinuxHost
from tasks.audit.verify import audited
from tasks.custody.audit.finding import AuditWord
from tasks.custody.store.promises import Promises
from tasks.storage.restore import pull
from tasks.storage.rollback import Undoing, rollback
from tests.integration.makes.conftest import Made
from tests.support.holdings import Unheard
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.soak

SEEN = {
    "moto": Promises(refuses=False, tells=False, copies=False, refuses_parts=False),
    "ministack": Promises(copies=False),
    "s3rver": Promises(*[False] * 5, refuses_parts=False),
}
"""What each was seen to keep."""


@pytest.fixture(params=["plain", "locked"])
def scene(
    request: pytest.FixtureRequest,
    prefect: None,  # noqa: ARG001  a fixture cannot be marked
    small: SmallWorkload,
    other_make: Made,
) -> Iterator[Scene]:
    """A workload whose evidence goes there."""
    if (locked := request.param == "locked") and not other_make.make.locks:
        pytest.skip("it has no Object Lock")
    other_make.credentials.save(f"c{uuid4().hex[:12]}", overwrite=True)
    made = Scene(small, other_make.block(locked=locked))
    yield made
    LinuxHost().release(made.block.evidence / "cordon.json")


def test_the_canary_sees_what_it_keeps(other_make: Made) -> None:
    assert other_make.block(locked=False).open().promises() == SEEN[other_make.make.name]


def test_an_incident_is_carried_on_promoted_audited_pulled_and_rolled_back(scene: Scene, tmp_path: Path) -> None:
    scene.small.start_all()
    model = scene.small.root / "models/model_builtin.joblib"
    first = model.read_bytes()
    state = scene.evacuate()
    keeps_locks = not scene.store_block.lock or scene.store.promises().locks_as_told
    assert state.name == ("Verified" if keeps_locks else "Unverified"), state.message
    incident = scene.home.name
    again = scene.evacuate(incident_id=incident)
    assert again.name == state.name, again.message
    audit = audited(scene.store, incident, None, deep=False)
    assert audit.word is not AuditWord.BROKEN, audit.summary
    if not keeps_locks:  # moto deletes what is locked, and takes a shorter lock
        assert "not seen to keep a lock" in str(state.message)
        return
    for what in ("latest", incident, incident.removeprefix("IR-")):
        (tmp_path / what).mkdir()
        pulled = pull(scene.store, what, tmp_path / what)
        assert pulled.is_complete, pulled.summary
    assert (tmp_path / "latest/models/model_builtin.joblib").read_bytes() == first
    undone = rollback(scene.store_block.open_latest(), Undoing("a test"), Unheard())
    assert undone.is_complete, undone.summary
    assert list(scene.store.list("latest/")) == []
    assert audited(scene.store, incident, None, deep=True).word is not AuditWord.BROKEN
