"""TLS is verified by each of the three clients, and an authority that the credentials block names is believed."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters

from blocks.s3.store import S3Store
from tasks.custody.errors import PermanentStoreError
from tasks.custody.evidence.part_sizes import divide
from tasks.drill.store_and_worker import SeaweedFS
from tests.integration.s3.tls import Tls, tls_before

PART = 5 << 20
SHA = hashlib.sha256(b"x").hexdigest()
ACTS: dict[str, Callable[[S3Store], object]] = {
    "create": lambda store: store.create("a", b"x", SHA),
    "copy": lambda store: store.copy("a", "b", SHA),
    "head": lambda store: store.head("a"),
    "read": lambda store: store.read("a"),
}


@pytest.fixture(scope="module")
def tls(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with tls_before(seaweed.ports["s3"], tmp_path_factory.mktemp("authority")) as door:
        yield door


def test_an_authority_that_the_block_names_is_believed(
    tls: Tls, seaweed: SeaweedFS, credentials: AwsCredentials, tmp_path: Path
) -> None:
    trusting = credentials.model_copy(
        update={"aws_client_parameters": AwsClientParameters(verify_cert_path=tls.authority)}
    )
    store = S3Store(seaweed.bucket, "tls", credentials=trusting, endpoint=tls.endpoint)
    store.create("small", b"x", SHA)
    store.copy("small", "copy", SHA)
    assert store.ensure_present("copy", SHA)
    assert store.read("copy") == b"x"
    (tmp_path / "large").write_bytes(os.urandom(2 * PART))
    whole, parts = divide(tmp_path / "large", PART, 2 * PART)
    store.create("large", tmp_path / "large", whole, parts)
    assert store.ensure_present("large", whole, parts)


@pytest.mark.parametrize("act", ACTS)
def test_one_that_nobody_names_is_refused_whichever_client_asks(
    tls: Tls, seaweed: SeaweedFS, credentials: AwsCredentials, act: str
) -> None:
    store = S3Store(seaweed.bucket, "tls", credentials=credentials, endpoint=tls.endpoint)
    with pytest.raises(PermanentStoreError, match="trust its authority"):
        ACTS[act](store)
