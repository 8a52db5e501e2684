"""S3 as an evidence store: obstore sends small objects, boto3 sends large ones, copies, and reads digests back.

Both clients are pinned to one endpoint and one region, whatever the environment says, and a store that
cannot answer is known within seconds.
"""

import base64
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import boto3
import obstore
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.exceptions import AlreadyExistsError, BaseError

from blocks.memory import absent, opened, read_source, require_digest, require_key, settle, unreadable
from blocks.port import PIECE, StoredObject
from blocks.s3_clients import boto3_client, obstore_client
from blocks.s3_errors import explain
from blocks.s3_lock import ObjectLock
from tasks.custody.manifest import digest_bytes
from tasks.custody.retention import NOTHING, Retention

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, HeadObjectOutputTypeDef
    from prefect_aws import AwsCredentials, MinIOCredentials

STREAM_ABOVE: Final = 8 << 20
"""Larger files are streamed by boto3: obstore holds the whole of a create-only object in memory."""


class S3Store:
    """A bucket and a prefix. Made once, then used from many threads."""

    def __init__(  # noqa: PLR0913  the fields of the block
        self,
        bucket: str,
        prefix: str,
        *,
        credentials: "AwsCredentials | MinIOCredentials | None" = None,
        endpoint: str | None = None,
        region: str | None = None,
        retention: Retention = NOTHING,
    ) -> None:
        """Make both clients; nothing is sent yet, unless the credentials need a token."""
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        with self._telling(f"credentials for {self.place}"):
            session = credentials.get_boto3_session() if credentials else boto3.Session()
            if session.get_credentials() is None:
                raise NoCredentialsError
            authority = credentials.aws_client_parameters.verify_cert_path if credentials else None
            region = region or session.region_name or "us-east-1"
            self._s3 = boto3_client(session, endpoint, region, authority)
            self._objects = obstore_client(session, bucket, self._s3.meta.endpoint_url, region, authority)
        self._lock, self._bucket_seen = ObjectLock(self._s3, bucket, retention), False

    @property
    def place(self) -> str:
        """The runbook's form of it."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def unfit(self) -> str:
        """Why the bucket cannot retain as it is asked to."""
        with self._telling(f"the Object Lock configuration of {self.place}"):
            return self._lock.unfit

    def create(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Send in one conditional PUT: one piece is what a store can digest as a whole.

        What is sent is hashed here first if it is small; for a stream the store compares with our digest. An object
        that is to be locked goes through boto3 whatever its size: obstore can send no lock.
        """
        name = self._name(key)
        try:
            with self._telling(f"{key} to be created in {self.place}"):
                if isinstance(source, Path) and _size(source) > STREAM_ABOVE:
                    with opened(source) as file:
                        return self._put(name, file, sha256)
                data = read_source(source)
                require_digest(key, digest_bytes(data), sha256)
                if self._lock.headers:
                    return self._put(name, data, sha256)
                obstore.put(self._objects, name, data, mode="create")
        except FileExistsError:
            self._settle(key, sha256)

    def _put(self, name: str, body: bytes | IO[bytes], sha256: str) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()

        def put(**lock: Any) -> None:
            if not isinstance(body, bytes):
                body.seek(0)
            self._s3.put_object(
                Bucket=self._bucket, Key=name, Body=body, ChecksumSHA256=checksum, IfNoneMatch="*", **lock
            )

        self._lock.create(put)

    def _settle(self, key: str, sha256: str) -> None:
        settle(self.place, key, self.look(key), sha256)
        self._retain(key)

    def _retain(self, key: str) -> None:
        """Not every store gives a copy the lock that it is asked for, and an object of an earlier run may have none."""
        with self._telling(f"{key} to be retained in {self.place}"):
            if self._lock.headers and (found := self._head(self._name(key))):
                self._lock.complete(self._name(key), found)

    def copy(self, source: str, key: str, sha256: str, *, replace: bool = False) -> None:
        """Copy inside the bucket; the bytes stay there. Up to 5 GiB, as far as one piece goes.

        For what may be overwritten no lock is asked; some servers give a copy that of its source.
        """
        origin: CopySourceTypeDef = {"Bucket": self._bucket, "Key": self._name(source)}
        name = self._name(key)
        try:
            with self._telling(f"{source} to be copied to {key} in {self.place}"):
                if replace:
                    self._s3.copy_object(Bucket=self._bucket, Key=name, CopySource=origin)
                    return
                self._lock.create(
                    partial(self._s3.copy_object, Bucket=self._bucket, Key=name, CopySource=origin, IfNoneMatch="*")
                )
            self._retain(key)
        except FileExistsError:
            self._settle(key, sha256)

    def look(self, key: str) -> StoredObject | None:
        """Ask for the digest that the store computed when it took the object."""
        name = self._name(key)
        with self._telling(f"the digest of {key} in {self.place}"):
            found = self._head(name)
        if found is None:
            return None
        return StoredObject(
            key,
            found["ContentLength"],
            _hex(found.get("ChecksumSHA256")),
            retained_until=_utc(found.get("ObjectLockRetainUntilDate")),
            lock=found.get("ObjectLockMode", "").lower(),
            held=found.get("ObjectLockLegalHoldStatus") == "ON",
        )

    def _head(self, name: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return self._s3.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            self._require_bucket()
            return None

    def read(self, key: str) -> bytes:
        """The content, compared with the store's checksum by boto3."""
        with self._telling(f"{key} to be read from {self.place}"):
            try:
                found = self._s3.get_object(Bucket=self._bucket, Key=self._name(key), ChecksumMode="ENABLED")
            except self._s3.exceptions.NoSuchKey:
                raise absent(self.place, key) from None
            return found["Body"].read()

    def stream(self, key: str) -> Iterator[bytes]:
        """The bytes as they come, compared with nothing: what differs is for the reader to find."""
        with self._telling(f"{key} to be read from {self.place}"):
            try:
                found = self._s3.get_object(Bucket=self._bucket, Key=self._name(key))
            except self._s3.exceptions.NoSuchKey:
                raise absent(self.place, key) from None
            with closing(found["Body"]) as body:
                yield from body.iter_chunks(PIECE)

    def rewritten(self, prefix: str) -> dict[str, int] | None:
        """Versions and delete markers of each key that has more than one; None while versioning was never switched on.

        Needs s3:GetBucketVersioning and s3:ListBucketVersions.
        """
        with self._telling(f"the versions under {self.place}/{prefix}"):
            if "Status" not in self._s3.get_bucket_versioning(Bucket=self._bucket):
                return None
            pages = self._s3.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            kept = Counter(
                each["Key"] for page in pages for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            )
        return {key.removeprefix(self._prefix): times for key, times in sorted(kept.items()) if times > 1}

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All pages, then sorted: not every store sorts as S3 does."""
        with self._telling(f"a listing of {self.place}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            found = [(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", [])]
        yield from (StoredObject(key.removeprefix(self._prefix), size, None) for key, size in sorted(found))

    def _name(self, key: str) -> str:
        return self._prefix + require_key(key)

    def _require_bucket(self) -> None:
        """HEAD says 404 for a missing key and a missing bucket alike: tell them apart, once."""
        if not self._bucket_seen:
            try:
                self._s3.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    error.response["Error"] = {"Code": "NoSuchBucket", "Message": "the bucket does not exist"}
                raise
            self._bucket_seen = True

    @contextmanager
    def _telling(self, expected: str) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError as error:
            raise FileExistsError from error
        except (BaseError, FileNotFoundError, BotoCoreError, Boto3Error, ClientError) as error:
            if isinstance(error, ClientError) and error.response["Error"].get("Code") == "PreconditionFailed":
                raise FileExistsError from error
            raise explain(error, expected) from error


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def _hex(checksum: str | None) -> str | None:
    """Hex of a digest of the whole object; a composite one ("…-3") is a digest of digests, and proves nothing here."""
    return base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None
