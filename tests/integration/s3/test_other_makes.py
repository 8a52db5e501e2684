"""A whole incident in stores that keep fewer promises than S3: each ends in the word that is so there."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.custody.store.promises import Promises
from tasks.host.host import LinuxHost
from tests.support.other_makes import BUCKET, LOCKED, MAKES, OtherMake
from tests.support.round_trip import require_back_and_undone
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.soak

SEEN = {
    "moto": Promises(refuses=False, copies=False, refuses_parts=False),
    "ministack": Promises(copies=False),
    "s3rver": Promises(refuses=False, tells=False, puts=False, copies=False, parts=False, refuses_parts=False),
}
"""What each was seen to keep."""


@dataclass(frozen=True)
class Made:
    """A store that runs, and its keys."""

    make: OtherMake
    credentials: AwsCredentials

    def block(self, *, locked: bool) -> EvidenceStore:
        """A store block under a prefix of its own; a locked one asks for a lock."""
        bucket, asked = (LOCKED, {"lock": "governance", "lock_days": 2}) if locked else (BUCKET, {})
        where = {"bucket": bucket, "prefix": f"test/{uuid4().hex}", "endpoint": self.make.endpoint}
        return EvidenceStore(**where, credentials=self.credentials, **asked)


@pytest.fixture(scope="module", params=MAKES)
def other_make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Each make, with its buckets."""
    if request.param == "s3rver" and not shutil.which("npm"):
        pytest.skip("s3rver needs npm")
    with MAKES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        keys = AwsCredentials(
            aws_access_key_id=running.key, aws_secret_access_key=SecretStr(running.key), region_name="us-east-1"
        )
        client = keys.get_boto3_session().client("s3", endpoint_url=running.endpoint)
        client.create_bucket(Bucket=BUCKET)
        if running.locks:
            client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        client.close()
        yield Made(running, keys)


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
    keeps_locks = not scene.store_block.lock or scene.store.promises().trusts_locks
    assert state.name == ("Verified" if keeps_locks else "Unverified"), state.message
    incident = scene.home.name
    again = scene.evacuate(incident_id=incident)
    assert again.name == state.name, again.message
    audit = verify_incident(scene.store, incident, None, deep=False)
    assert audit.word is not AuditWord.BROKEN, audit.summary
    if not keeps_locks:  # moto deletes what is locked, and takes a shorter lock
        assert "not seen to keep a lock" in str(state.message)
        return
    require_back_and_undone(scene, incident, first, tmp_path)
