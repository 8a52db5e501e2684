"""S3 as an evidence store: obstore sends small objects, boto3 sends large ones, copies, and reads digests back.

Both clients are pinned to one endpoint and one region, whatever the environment says, and a store that
cannot answer is known within seconds.
"""

import base64
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import obstore
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from blocks.memory import absent, opened, read_source, require_digest, require_key, settle, unreadable
from blocks.port import PIECE, StoredObject
from blocks.s3_errors import explain
from tasks.custody.manifest import digest_bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef
    from obstore.store import ClientConfig
    from prefect_aws import AwsCredentials, MinIOCredentials

STREAM_ABOVE: Final = 8 << 20
"""Larger files are streamed by boto3: obstore holds the whole of a create-only object in memory."""

_CONNECT: Final = 1
_ANSWER: Final = 120
_TRIES: Final = 2


class S3Store:
    """A bucket and a prefix. Made once, then used from many threads."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        credentials: "AwsCredentials | MinIOCredentials | None" = None,
        endpoint: str | None = None,
        region: str | None = None,
    ) -> None:
        """Make both clients; nothing is sent yet, unless the credentials need a token."""
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        with self._telling(f"credentials for {self.place}"):
            session = credentials.get_boto3_session() if credentials else boto3.Session()
            if session.get_credentials() is None:
                raise NoCredentialsError
            authority = credentials.aws_client_parameters.verify_cert_path if credentials else None
            region = region or session.region_name or "us-east-1"
            self._s3 = _boto3_client(session, endpoint, region, authority)
            self._objects = _obstore_client(session, bucket, self._s3.meta.endpoint_url, region, authority)
        self._bucket_seen = False

    @property
    def place(self) -> str:
        """The runbook's form of it."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def create(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Send in one conditional PUT: one piece is what a store can digest as a whole.

        What is sent is hashed here first if it is small; for a stream the store compares with our digest.
        """
        name = self._name(key)
        try:
            with self._telling(f"{key} to be created in {self.place}"):
                if isinstance(source, Path) and _size(source) > STREAM_ABOVE:
                    self._stream(name, source, sha256)
                else:
                    data = read_source(source)
                    require_digest(key, digest_bytes(data), sha256)
                    obstore.put(self._objects, name, data, mode="create")
        except FileExistsError:
            settle(self.place, key, self.look(key), sha256)

    def _stream(self, name: str, source: Path, sha256: str) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        with opened(source) as file:
            self._s3.put_object(Bucket=self._bucket, Key=name, Body=file, ChecksumSHA256=checksum, IfNoneMatch="*")

    def copy(self, source: str, key: str, sha256: str, *, replace: bool = False) -> None:
        """Copy inside the bucket; the bytes stay there. Up to 5 GiB, as far as one piece goes."""
        origin: CopySourceTypeDef = {"Bucket": self._bucket, "Key": self._name(source)}
        name = self._name(key)
        try:
            with self._telling(f"{source} to be copied to {key} in {self.place}"):
                if replace:
                    self._s3.copy_object(Bucket=self._bucket, Key=name, CopySource=origin)
                else:
                    self._s3.copy_object(Bucket=self._bucket, Key=name, CopySource=origin, IfNoneMatch="*")
        except FileExistsError:
            settle(self.place, key, self.look(key), sha256)

    def look(self, key: str) -> StoredObject | None:
        """Ask for the digest that the store computed when it took the object."""
        name = self._name(key)
        with self._telling(f"the digest of {key} in {self.place}"):
            try:
                found = self._s3.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["Error"]["Code"] != "404":
                    raise
                self._require_bucket()
                return None
        return StoredObject(key, found["ContentLength"], _hex(found.get("ChecksumSHA256")))

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


def _boto3_client(session: boto3.Session, endpoint: str | None, region: str, authority: Path | None) -> "S3Client":
    """TLS is always verified. No managed transfer is used: its CRT variety would ignore the endpoint."""
    return session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        verify=str(authority) if authority else None,
        config=Config(  # type: ignore[call-arg]  # the stubs are older
            connect_timeout=_CONNECT,
            read_timeout=_ANSWER,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            max_pool_connections=32,
            ignore_configured_endpoint_urls=True,
        ),
    )


def _obstore_client(session: boto3.Session, bucket: str, endpoint: str, region: str, authority: Path | None) -> Bucket:
    """Every setting that obstore would otherwise take from the environment is given."""
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=_CONNECT),
        "timeout": timedelta(seconds=_ANSWER),
    }
    if authority:
        options["root_certificate"] = authority.read_bytes()
    return Bucket(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=region,
        virtual_hosted_style_request=False,
        skip_signature=False,
        checksum_algorithm="SHA256",
        credential_provider=Boto3CredentialProvider(session, ttl=timedelta(minutes=5)),
        client_options=options,
        retry_config={
            "max_retries": _TRIES,
            "retry_timeout": timedelta(seconds=5),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
    )


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error


def _hex(checksum: str | None) -> str | None:
    """Hex of a digest of the whole object; a composite one ("…-3") is a digest of digests, and proves nothing here."""
    return base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None
