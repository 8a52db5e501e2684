"""A running store of each make, and a block for it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.store import EvidenceStore
from tests.support.other_makes import BUCKET, LOCKED, MAKES, OtherMake


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


@pytest.fixture(scope="package", params=MAKES)
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
