"""A workload with small files and a large one, and a real S3 server behind a proxy that breaks what it is told to."""

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials

from blocks.s3.store import S3Store
from tasks.custody.evidence import part_sizes
from tasks.drill.store_and_worker import SeaweedFS
from tests.integration.s3.proxy import Proxy
from tests.support.workloads import SmallWorkload

MIB = 1 << 20
LARGE = "models/model_large.joblib"
PARTS = 4


@pytest.fixture
def laden(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> SmallWorkload:
    """Forty small files, one that is streamed, and one that goes in four parts."""
    monkeypatch.setattr(part_sizes, "ABOVE", 6 * MIB)
    monkeypatch.setattr(part_sizes, "PART", 5 * MIB)
    (small.root / LARGE).write_bytes(os.urandom(15 * MIB + 7))
    (small.root / "models/model_streamed.joblib").write_bytes(os.urandom(5 * MIB))
    for number in range(40):
        (small.root / f"logs/train-{number:02}.log").write_bytes(os.urandom(3000 + number))
    return small


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[Proxy]:
    """A door before the session's server."""
    with Proxy(seaweed.endpoint) as door:
        yield door


@pytest.fixture
def door(proxy: Proxy, seaweed: SeaweedFS, credentials: AwsCredentials) -> Callable[[], S3Store]:
    """Make a store behind the proxy, under the same prefix each time."""
    prefix = uuid4().hex
    return lambda: S3Store(seaweed.bucket, prefix, credentials=credentials, endpoint=proxy.endpoint)
