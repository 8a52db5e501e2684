"""Large objects on a real server: sent in parts, continued after a kill -9, never left half done."""

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials

from blocks.s3.store import S3Store
from tasks.custody.errors import Conflict, PermanentStoreError
from tasks.custody.evidence.part_sizes import Parts, divide
from tasks.custody.store import promises
from tasks.custody.store.retention import NOTHING, Retention
from tasks.drill.store_and_worker import SeaweedFS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART = 5 << 20
TOTAL = 4 * PART + 1000
KILLED_IN_MID_TRANSFER = """
import os, signal, sys
from pathlib import Path
from prefect_aws import AwsCredentials
from blocks.s3 import parts as s3_parts
from blocks.s3.store import S3Store
from tasks.custody.evidence.part_sizes import divide

s3_parts.AT_ONCE = 1
endpoint, bucket, prefix, path, size, total, after = sys.argv[1:]
keys = AwsCredentials(aws_access_key_id=os.environ["KEY"], aws_secret_access_key=os.environ["SECRET"])
store = S3Store(bucket, prefix, credentials=keys, endpoint=endpoint, region="us-east-1")
sha256, parts = divide(Path(path), int(size), int(total))
sent = []

def tell(size):
    sent.append(size)
    if len(sent) == int(after):
        os.kill(os.getpid(), signal.SIGKILL)

store.create("large", Path(path), sha256, parts, tell)
"""


@dataclass(frozen=True)
class Place:
    """A prefix of its own on the server, and the server's owner, who looks at it without any code of ours."""

    client: "S3Client"
    server: SeaweedFS
    keys: AwsCredentials
    prefix: str

    @property
    def store(self) -> S3Store:
        """A store of ours there, made anew."""
        return S3Store(self.server.bucket, self.prefix, credentials=self.keys, endpoint=self.server.endpoint)

    def begin(self, key: str) -> str:
        """Begin an upload that nobody completes."""
        made = self.client.create_multipart_upload(
            Bucket=self.server.bucket, Key=f"{self.prefix}/{key}", ChecksumAlgorithm="SHA256"
        )
        return made["UploadId"]

    def put(self, key: str, upload: str, number: int, data: bytes) -> None:
        """Send a part of one."""
        address = {"Bucket": self.server.bucket, "Key": f"{self.prefix}/{key}"}
        self.client.upload_part(
            **address,  # type: ignore[arg-type]
            UploadId=upload,
            PartNumber=number,
            Body=data,
            ChecksumAlgorithm="SHA256",
        )

    @property
    def unfinished(self) -> list[str]:
        """Keys of uploads that were begun and neither completed nor ended."""
        found = self.client.list_multipart_uploads(Bucket=self.server.bucket, Prefix=f"{self.prefix}/")
        return [each["Key"].removeprefix(f"{self.prefix}/") for each in found.get("Uploads", [])]


@pytest.fixture
def place(seaweed: SeaweedFS, credentials: AwsCredentials) -> Place:
    client = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    return Place(client, seaweed, credentials, uuid4().hex)


@dataclass(frozen=True)
class Large:
    """A file with its digest and its parts."""

    path: Path
    sha256: str
    parts: Parts

    def piece(self, number: int) -> bytes:
        """The bytes of a part."""
        return self.path.read_bytes()[(number - 1) * PART : number * PART]


@pytest.fixture
def large(tmp_path: Path) -> Large:
    path = tmp_path / "a large file"
    path.write_bytes(os.urandom(TOTAL))
    return Large(path, *divide(path, PART, TOTAL))


def test_what_comes_in_parts_has_the_digest_that_follows_from_them(place: Place, large: Large) -> None:
    sent = list[int]()
    place.store.create("large", large.path, large.sha256, large.parts, sent.append)
    there = place.store.head("large")
    assert there
    assert (there.size, there.sha256, there.composite) == (TOTAL, None, large.parts.composite)
    assert sum(sent) == TOTAL
    read = hashlib.sha256()
    for piece in place.store.stream("large"):
        read.update(piece)
    assert read.hexdigest() == large.sha256


def test_the_same_again_sends_nothing_and_other_content_is_a_conflict(place: Place, large: Large) -> None:
    sent = list[int]()
    place.store.create("large", large.path, large.sha256, large.parts)
    place.store.create("large", large.path, large.sha256, large.parts, sent.append)
    assert sent == []
    large.path.write_bytes(b"other" * (TOTAL // 5))
    sha256, parts = divide(large.path, PART, TOTAL // 5 * 5)
    with pytest.raises(Conflict) as raised:
        place.store.create("large", large.path, sha256, parts)
    assert sha256 in str(raised.value)
    assert large.parts.composite in str(raised.value)
    assert place.store.ensure_present("large", large.sha256, large.parts)


@pytest.mark.whole
def test_after_a_kill_only_the_missing_parts_are_sent(place: Place, large: Large) -> None:
    arguments = [place.server.endpoint, place.server.bucket, place.prefix, large.path, PART, TOTAL, 3]
    environment = {**os.environ, "KEY": place.server.access_key, "SECRET": place.server.secret_key}
    command = [sys.executable, "-c", KILLED_IN_MID_TRANSFER, *map(str, arguments)]
    killed = subprocess.run(command, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert place.unfinished == ["large"]
    assert place.store.head("large") is None
    sent = list[int]()
    place.store.create("large", large.path, large.sha256, large.parts, sent.append)
    assert sorted(sent) == [1000, PART]
    assert place.store.ensure_present("large", large.sha256, large.parts)
    assert place.unfinished == []


def test_a_part_that_is_not_ours_is_sent_again_and_older_uploads_are_ended(place: Place, large: Large) -> None:
    place.begin("large")
    upload = place.begin("large")
    place.put("large", upload, 1, large.piece(1))
    place.put("large", upload, 2, os.urandom(PART))
    place.put("large", upload, 3, large.piece(3)[:-1])
    place.begin("large.other")
    place.store.create("large", large.path, large.sha256, large.parts)
    assert place.store.ensure_present("large", large.sha256, large.parts)
    assert place.unfinished == ["large.other"]


def test_what_nobody_will_continue_is_ended_and_nothing_else(place: Place) -> None:
    for key in ("incidents/IR-1/evidence/a", "incidents/IR-2/evidence/a", "latest/a"):
        place.begin(key)
    place.store.create("incidents/IR-1/b", b"x", hashlib.sha256(b"x").hexdigest())
    assert place.store.end_unfinished("incidents/IR-1/") == ["incidents/IR-1/evidence/a"]
    assert sorted(place.unfinished) == ["incidents/IR-2/evidence/a", "latest/a"]
    assert place.store.read("incidents/IR-1/b") == b"x"


@pytest.mark.parametrize("act", ["changed", "cut short"])
def test_a_file_that_changes_while_it_is_sent_is_never_put_together(place: Place, large: Large, act: str) -> None:
    os.truncate(large.path, PART + 7)
    if act == "changed":
        os.truncate(large.path, TOTAL)
    with pytest.raises(PermanentStoreError, match="after it was hashed"):
        place.store.create("large", large.path, large.sha256, large.parts)
    assert place.store.head("large") is None


def test_what_is_too_large_for_one_copy_is_copied_in_the_same_parts(
    place: Place, large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store
    store.create("large", large.path, large.sha256, large.parts)
    monkeypatch.setattr(promises, "ONE_REQUEST", PART)
    store.copy("large", "copy", large.sha256, large.parts)
    store.copy("large", "copy", large.sha256, large.parts)
    store.create("latest/x", b"old", hashlib.sha256(b"old").hexdigest())
    with pytest.raises(Conflict):
        store.copy("large", "latest/x", large.sha256, large.parts)
    store.copy("large", "latest/x", large.sha256, large.parts, replace=True)
    for key in ("copy", "latest/x"):
        assert store.ensure_present(key, large.sha256, large.parts)
    assert place.unfinished == []


def test_what_comes_in_parts_is_locked_like_the_rest(
    seaweed: SeaweedFS, credentials: AwsCredentials, large: Large
) -> None:
    client = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    bucket, asked = f"vault-{uuid4().hex[:8]}", Retention("governance", 30, hold=True)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    stores = [
        S3Store(bucket, "", credentials=credentials, endpoint=seaweed.endpoint, retention=r) for r in (NOTHING, asked)
    ]
    stores[0].create("earlier", large.path, large.sha256, large.parts)
    for key in ("new", "earlier"):
        stores[1].create(key, large.path, large.sha256, large.parts)
        there = stores[1].head(key)
        assert there
        assert (there.lock, there.held, there.retained_until is not None) == ("governance", True, True)
    client.close()
