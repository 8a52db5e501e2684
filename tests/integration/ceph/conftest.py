"""A gateway of Ceph with two buckets, one of which keeps versions."""

import os
import shutil
from collections.abc import Iterator
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3.store import S3Store
from blocks.store import EvidenceStore
from tests.support.ceph import PROGRAMS, CephGateway

REGION = "us-east-1"
LOCKED = "vault"


@pytest.fixture(scope="package")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephGateway]:
    """A gateway that runs."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid():
        pytest.skip(f"a gateway of Ceph needs root and {', '.join(missing or PROGRAMS)}: make ceph")
    with CephGateway(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(scope="package")
def ceph_keys(ceph: CephGateway) -> AwsCredentials:
    """Its user's credentials; both buckets are there."""
    secret = SecretStr(ceph.secret_key)
    keys = AwsCredentials(aws_access_key_id=ceph.access_key, aws_secret_access_key=secret, region_name=REGION)
    client = keys.get_boto3_session().client("s3", endpoint_url=ceph.endpoint)
    client.create_bucket(Bucket=ceph.bucket)
    client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
    client.close()
    return keys


@pytest.fixture(params=[pytest.param("plain", marks=pytest.mark.soak), "locked"])
def ceph_block(request: pytest.FixtureRequest, ceph: CephGateway, ceph_keys: AwsCredentials) -> EvidenceStore:
    """A store block in either bucket, under a prefix of its own; in the locked one it asks for a lock."""
    locked = request.param == "locked"
    asked = {"lock": "governance", "lock_days": 2} if locked else {}
    bucket, prefix = LOCKED if locked else ceph.bucket, f"test/{uuid4().hex}"
    return EvidenceStore(bucket=bucket, prefix=prefix, endpoint=ceph.endpoint, credentials=ceph_keys, **asked)


@pytest.fixture
def store(ceph: CephGateway, ceph_keys: AwsCredentials) -> S3Store:
    """An empty store in the bucket without versions."""
    return S3Store(ceph.bucket, uuid4().hex, credentials=ceph_keys, endpoint=ceph.endpoint)
