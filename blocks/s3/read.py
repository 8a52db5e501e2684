"""Read objects of an S3 bucket: small requests and listings are signed here, streams and versions are boto3's."""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256 as sha256_of
from threading import Lock
from urllib.parse import quote

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.exceptions import AlreadyExistsError, BaseError
from urllib3.exceptions import HTTPError

from blocks.contract import absent, require_key
from blocks.credentials import Credentials, find_ca_file
from blocks.port import CANARIES, PIECE, StoredObject
from blocks.s3.answers import Answers
from blocks.s3.clients import BOTO_SECONDS, boto3_client, obstore_client, signed_pool
from blocks.s3.errors import explain
from blocks.s3.list import pages
from blocks.s3.wire import Wire
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.promises import KEPT, Promises
from tasks.custody.store.silence import StoreSilence


class S3Reader:
    """The reading half of a store in one bucket, under one prefix. Safe for use from many threads."""

    def __init__(
        self, bucket: str, prefix: str, credentials: Credentials | None, endpoint: str | None, region: str | None
    ) -> None:
        """Make the clients. Sends nothing yet, unless the credentials need a token."""
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._answers = Answers()
        with self._explaining(f"credentials for {self.place}"):
            session = credentials.get_boto3_session() if credentials else boto3.Session()
            if (keys := session.get_credentials()) is None:
                raise NoCredentialsError
            authority = find_ca_file(credentials)
            region = region or session.region_name or "us-east-1"
            self._s3 = boto3_client(session, endpoint, region, authority)
            self._answers.listen(self._s3, BOTO_SECONDS)
            where = self._s3.meta.endpoint_url
            self._objects = obstore_client(session, bucket, where, region, authority)
            pools = (signed_pool(where, authority, canary=canary) for canary in (False, True))
            self._wire, self._canary_wire = (
                Wire(keys, pool, f"{where}/{bucket}", region, self._answers) for pool in pools
            )
        self._bucket_seen, self._asking = False, Lock()
        self._versioned: bool | None = None
        self._promises: Promises | None = None

    @property
    def place(self) -> str:
        """The location as the runbook writes it: s3://bucket/prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def find_silence(self) -> StoreSilence | None:
        """Return what the store has not answered, None if it answers."""
        return self._answers.find_silence(self.place)

    @property
    def has_answered(self) -> bool:
        """Whether the store has answered anything at all, be it that it cannot."""
        return self._answers.answered

    def head(self, key: str, version: str = "") -> StoredObject | None:
        """Return the object with the digest that the store computed. A digest that failed the canary test is None.

        A store used only for reading has not been tested.
        """
        with self._explaining(f"the digest of {key} in {self.place}"):
            found = self._head(self._name(key), version)
        if found is None:
            return None
        there, promises = stored_object(key, found), self._promises or KEPT
        if not promises.digests:
            return replace(there, sha256=None, composite="")
        return there if promises.refuses_parts else replace(there, composite="")

    def _identify(self, key: str, sha256: str, parts: Parts | None, version: str = "") -> StoredObject | None:
        """Return the object at a key: by the store's digest, or hashed here if its digest does not decide."""
        there = self.head(key, version)
        answer = there is None or there.says(sha256, parts) or (parts and parts.contradicted_by(there.composite))
        if answer or there is None:
            return there
        digest = sha256_of()
        for piece in self.stream(key, version):
            digest.update(piece)
        return replace(there, sha256=digest.hexdigest())

    def _versions(self, key: str) -> Sequence[str]:
        """Return the ids of all versions of a key, without delete markers."""
        name = self._name(key)
        with self._explaining(f"the versions of {key} in {self.place}"):
            pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
            found = [each for page in pages for each in page.get("Versions", ())]
        return [each["VersionId"] for each in found if each["Key"] == name]

    def _head(self, name: str, version: str = "") -> Mapping[str, str] | None:
        query = f"?versionId={quote(version, safe='-_.~')}" if version else ""
        try:
            return self._wire.ask("HEAD", name, {"x-amz-checksum-mode": "ENABLED"}, query=query).headers
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            self._require_bucket()
            return None

    def read(self, key: str, limit: int | None = None) -> bytes:
        """Return the content or its first `limit` bytes, not compared with any checksum: the reader has to hash it."""
        headers = {"range": f"bytes=0-{limit - 1}"} if limit else {}
        with self._explaining(f"{key} to be read from {self.place}"):
            try:
                return self._wire.ask("GET", self._name(key), headers).body[:limit]
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    raise absent(self.place, key) from None
                if error.response["Error"]["Code"] == "InvalidRange":  # it is empty
                    return b""
                raise

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield the content, not compared with any checksum: the reader has to hash it."""
        which = {"VersionId": version} if version else {}
        with self._explaining(f"{key} to be read from {self.place}"):
            try:
                found = self._s3.get_object(Bucket=self._bucket, Key=self._name(key), **which)  # type: ignore[arg-type]
            except self._s3.exceptions.NoSuchKey:
                raise absent(self.place, key) from None
            with closing(found["Body"]) as body:
                yield from body.iter_chunks(PIECE)

    def count_versions(self, prefix: str) -> dict[str, int] | None:
        """Return the versions and delete markers of each key with more than one; None if versioning was never enabled.

        Needs s3:GetBucketVersioning and s3:ListBucketVersions. Versioning is asked for once.
        """
        with self._explaining(f"the versions under {self.place}/{prefix}"):
            with self._asking:
                if self._versioned is None:
                    self._versioned = "Status" in self._s3.get_bucket_versioning(Bucket=self._bucket)
            if not self._versioned:
                return None
            paginator, below = self._s3.get_paginator("list_object_versions"), self._prefix + prefix
            versions = Counter[str]()
            for page in paginator.paginate(Bucket=self._bucket, Prefix=below):
                versions.update(each["Key"] for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())))
        counts = {name.removeprefix(self._prefix): times for name, times in sorted(versions.items()) if times > 1}
        return {key: times for key, times in counts.items() if not key.startswith(CANARIES)}

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all objects but the canaries, sorted by key here: not every store sorts as S3 does."""
        yield from self._list(prefix, "")[0]

    def list_folder(self, prefix: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        """Return the objects directly below a prefix, and the folders there, both sorted."""
        return self._list(prefix, "/")

    def _list(self, prefix: str, delimiter: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        with self._explaining(f"a listing of {self.place}/{prefix}"):
            found = [*pages(self._wire, self._prefix, prefix, delimiter)]
        objects = (each for page in found for each in page.objects if not each.key.startswith(CANARIES))
        folders = (each for page in found for each in page.folders if each != CANARIES)
        return sorted(objects, key=lambda each: each.key), sorted(folders)

    def _name(self, key: str) -> str:
        return self._prefix + require_key(key)

    def _require_bucket(self) -> None:
        """Raise a NoSuchBucket error if the bucket is missing: HEAD answers 404 for a missing key too. Asks once."""
        if not self._bucket_seen:
            try:
                self._s3.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    error.response["Error"] = {"Code": "NoSuchBucket", "Message": "the bucket does not exist"}
                raise
            self._bucket_seen = True

    @contextmanager
    def _explaining(self, expected: str) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError as error:
            raise FileExistsError from error
        except (BaseError, FileNotFoundError, BotoCoreError, Boto3Error, ClientError, HTTPError) as error:
            if isinstance(error, ClientError) and error.response["Error"].get("Code") == "PreconditionFailed":
                raise FileExistsError from error
            raise explain(error, expected, self._has_bucket) from error

    def _has_bucket(self) -> bool:
        """Return whether the bucket is seen to be there now."""
        with suppress(BotoCoreError, ClientError):
            return bool(self._s3.head_bucket(Bucket=self._bucket))
        return False


def stored_object(key: str, found: Mapping[str, str]) -> StoredObject:
    """Return the object of a HEAD response. A composite digest ("…-3", a digest of digests) is kept apart."""
    digest, dash, parts = found.get("x-amz-checksum-sha256", "").partition("-")
    sha256 = base64.b64decode(digest).hex()
    until = found.get("x-amz-object-lock-retain-until-date")
    return StoredObject(
        key,
        int(found["content-length"]),
        sha256 if sha256 and not dash else None,
        retained_until=datetime.fromisoformat(until).astimezone(UTC) if until else None,
        held=found.get("x-amz-object-lock-legal-hold") == "ON",
        lock=found.get("x-amz-object-lock-mode", "").lower(),
        composite=f"{sha256}-{parts}" if dash else "",
        modified=parsedate_to_datetime(found["last-modified"]) if "last-modified" in found else None,
    )
