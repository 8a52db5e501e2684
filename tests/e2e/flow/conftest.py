"""A small workload at work, its blocks saved on a real Prefect server, and a real S3 server to go to."""

from collections.abc import Iterator
from uuid import uuid4

import psutil
import pytest
from prefect_aws import AwsCredentials

from blocks.s3 import retry as s3_retry
from blocks.store import EvidenceStore
from tasks.containment import silence
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.host import LinuxHost
from tasks.latest.promote import promote
from tasks.storage.offload import offload
from tasks.storage.verify import verify
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, wait_until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store refuses for a moment is tried as often as ever, and sooner."""
    for step in (offload, promote, verify):
        monkeypatch.setattr(step, "retry_delay_seconds", 0.1)
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 0.5)
    monkeypatch.setattr(s3_retry, "_WAITS", (0.01, 0.04, 0.16))


@pytest.fixture
def scene(prefect: None, small: SmallWorkload, seaweed: SeaweedFS, credentials: AwsCredentials) -> Iterator[Scene]:  # noqa: ARG001  a fixture cannot be marked
    """A workload with its blocks; what the cordon left behind is released at the end."""
    name = f"c{uuid4().hex[:12]}"
    credentials.save(name)
    store = EvidenceStore(
        bucket=seaweed.bucket,
        prefix=f"test/{uuid4().hex}",
        endpoint=seaweed.endpoint,
        credentials=AwsCredentials.load(name),
    )
    made = Scene(small, store)
    yield made
    LinuxHost().release(made.block.evidence / "cordon.json")


@pytest.fixture
def stranger(scene: Scene) -> Iterator[psutil.Process]:
    """A program in the root that nobody knows."""
    scene.small.start(["setsid", "--fork", "sleep", "611"]).wait()  # nobody's child: what a run has started is ours
    wait_until(lambda: [each for each in scene.small.living() if each.name() == "sleep"], what="its start")
    (one,) = (each for each in scene.small.living() if each.name() == "sleep")
    yield one
    if one.is_running():
        one.kill()
    wait_until(lambda: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE, what="its end")
