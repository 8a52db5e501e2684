"""Keep evidence in S3: small objects by obstore, large ones in parts, copies and digests by signed requests."""

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha256 as sha256_of
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import boto3
import obstore
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.exceptions import AlreadyExistsError, BaseError
from urllib3.exceptions import HTTPError

from blocks.contract import (
    absent,
    opened,
    read_source,
    require_digest,
    require_key,
    require_removable,
    settled,
    unreadable,
    vanished,
)
from blocks.port import PIECE, StoredObject, untold
from blocks.s3_canary import CANARIES, NEW, Canary
from blocks.s3_clients import boto3_client, obstore_client, signed_pool, trusted
from blocks.s3_errors import explain
from blocks.s3_lock import ObjectLock
from blocks.s3_parts import Divided, base64_of
from blocks.s3_retry import patiently
from blocks.s3_wire import Body, Wire, pieces
from tasks.custody.errors import Denied
from tasks.custody.evidence.parts import Parts
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.promises import KEPT, Promises, Way, in_one_request
from tasks.custody.store.retention import NOTHING, Retention

if TYPE_CHECKING:
    from blocks.store_fields import Credentials

STREAM_ABOVE: Final = 4 << 20
"""Larger files are streamed: obstore holds the whole of a create-only object in memory, for each of many threads."""


class S3Store:
    """A bucket and a prefix. Made once, then used from many threads."""

    def __init__(  # noqa: PLR0913  the fields of the block
        self,
        bucket: str,
        prefix: str,
        *,
        credentials: "Credentials | None" = None,
        endpoint: str | None = None,
        region: str | None = None,
        retention: Retention = NOTHING,
    ) -> None:
        """Make both clients; nothing is sent yet, unless the credentials need a token."""
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        with self._telling(f"credentials for {self.place}"):
            session = credentials.get_boto3_session() if credentials else boto3.Session()
            if (keys := session.get_credentials()) is None:
                raise NoCredentialsError
            authority = trusted(credentials.aws_client_parameters.verify_cert_path if credentials else None)
            region = region or session.region_name or "us-east-1"
            self._s3 = boto3_client(session, endpoint, region, authority)
            where = self._s3.meta.endpoint_url
            self._objects = obstore_client(session, bucket, where, region, authority)
            self._wire = Wire(keys, signed_pool(where, authority), f"{where}/{bucket}", region)
        self._lock, self._bucket_seen = ObjectLock(self._s3, bucket, retention), False
        self._asked, self._trying = retention.lock, Lock()
        self._promises: Promises | None = None
        self._divided = Divided(self._s3, self._wire, bucket, self._lock)

    @property
    def place(self) -> str:
        """The runbook's form of it."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def unfit(self) -> str:
        """Why the bucket cannot retain as it is asked to."""
        with self._telling(f"the Object Lock configuration of {self.place}"):
            return self._lock.unfit

    def promises(self) -> Promises:
        """By canary objects below the prefix."""
        with self._trying:
            if self._promises is None:
                with self._telling(f"what {self.place} does, tried on objects of no value"):
                    asked = self._asked if self._lock.headers else ""
                    self._promises = Canary(self._s3, self._wire, self._bucket, self._prefix, asked).tried()
            return self._promises

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = untold,
    ) -> None:
        """Send in one conditional PUT, which a store can digest as a whole, or in parts, as its promises allow.

        What is sent is hashed here first if it is small; for a stream the store compares with our digest. An object
        that is to be locked is signed here whatever its size: obstore can send no lock.
        """
        size = _size(source)
        way = self.promises().way(size, divided=parts is not None)
        new = self.promises().conditional(way)
        look = self._looked if way is Way.LOOKED else self.ensure_present
        if (size > STREAM_ABOVE or way is Way.LOOKED) and look(key, sha256, parts):
            return
        with self._once(f"{key} to be created in {self.place}", key, sha256, parts, way):
            if not isinstance(source, Path) or size <= STREAM_ABOVE:
                self._put_small(key, source, sha256, new=new)
            elif parts and way is not Way.SENT:
                self._divided.send(self._name(key), source, parts, tell, new=new)
            else:
                size = parts.total if parts else size
                with opened(source) as file:
                    self._put(self._name(key), partial(pieces, file.fileno(), source, 0, size), size, sha256, new=new)
                tell(size)
        if parts:
            self._retain(key)

    @contextmanager
    def _once(self, expected: str, key: str, sha256: str, parts: Parts | None, way: Way) -> Iterator[None]:
        """Take what is there already for what is created in here, if it is the same content."""
        try:
            with self._telling(expected):
                yield
        except FileExistsError:
            if not self.ensure_present(key, sha256, parts):
                raise vanished(self.place, key) from None
        if way is Way.LOOKED and not self._looked(key, sha256, parts):
            raise vanished(self.place, key)

    def _put_small(self, key: str, source: Path | bytes, sha256: str, *, new: bool) -> None:
        data, name = read_source(source), self._name(key)
        require_digest(key, digest_bytes(data), sha256)
        if self._lock.headers:
            self._put(name, data, len(data), sha256, new=new)
        else:
            patiently(lambda: obstore.put(self._objects, name, data, mode="create" if new else "overwrite"))

    def _put(self, name: str, body: Body, size: int, sha256: str, *, new: bool = True) -> None:
        headers = {**(NEW if new else {}), "Content-Length": str(size), "x-amz-checksum-sha256": base64_of(sha256)}
        self._lock.create_by_headers(
            lambda lock: self._wire.ask("PUT", name, {**headers, **lock}, body=body, sha256=sha256)
        )

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """By the store's own digest. An object of an earlier run may have no lock: it gets the one that is asked."""
        if not settled(self.place, key, self._known(key, sha256, parts), sha256, parts):
            return False
        self._retain(key)
        return True

    def _known(self, key: str, sha256: str, parts: Parts | None, version: str = "") -> StoredObject | None:
        """What lies at a key: by the store's word, and by its bytes where that says nothing of this content."""
        there = self._told(key, version)
        said = there is None or there.says(sha256, parts) or (parts and parts.contradicted_by(there.composite))
        if said or there is None:
            return there
        seen = sha256_of()
        for piece in self._stream(key, version):
            seen.update(piece)
        return replace(there, sha256=seen.hexdigest())

    def _looked(self, key: str, sha256: str, parts: Parts | None) -> bool:
        """Whether this content lies there and, as far as one may look, no version of the key has another.

        A PUT of ours whose answer was lost, and which was sent again, leaves two versions of one content.
        """
        there = self.ensure_present(key, sha256, parts)
        with suppress(Denied):
            several = (self.rewritten(key) or {}).get(key, 1) > 1
            for version in self._versions(key) if several else ():
                known = self._known(key, sha256, parts, version)
                settled(self.place, f"version {version} of {key}", known, sha256, parts)
        return there

    def _versions(self, key: str) -> Sequence[str]:
        """All that have content."""
        name = self._name(key)
        with self._telling(f"the versions of {key} in {self.place}"):
            pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
            found = [each for page in pages for each in page.get("Versions", ())]
        return [each["VersionId"] for each in found if each["Key"] == name]

    def _retain(self, key: str) -> None:
        """Not every store gives a copy the lock that it is asked for."""
        with self._telling(f"{key} to be retained in {self.place}"):
            if self._lock.headers and (found := self._head(self._name(key))) is not None:
                since = parsedate_to_datetime(found["last-modified"])
                self._lock.complete(self._name(key), _stored(key, found), since)

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Copy inside the bucket; the bytes stay there, unless nothing else keeps what is at the key.

        For what may be overwritten no lock is asked; some servers give a copy that of its source.
        """
        size = parts.total if parts else 0
        way = Way.CONDITION if replace else self.promises().way(size, divided=parts is not None, copied=True)
        if way is Way.LOOKED and self._looked(key, sha256, parts):
            return
        with self._once(f"{source} to be copied to {key} in {self.place}", key, sha256, parts, way):
            if way is Way.SENT:
                self._send_again(source, key, sha256)
            else:
                new = not replace and self.promises().conditional(way)
                self._copy(self._name(source), self._name(key), parts, replace=replace, new=new)
            if not replace:
                self._retain(key)

    def _copy(self, source: str, name: str, parts: Parts | None, *, replace: bool, new: bool) -> None:
        if parts and not in_one_request(parts.total):
            return self._divided.copy(source, name, parts, replace=replace, new=new)
        headers = {"x-amz-copy-source": quote(f"/{self._bucket}/{source}", safe="/-_.~"), "Content-Length": "0"}
        if replace:
            self._wire.ask("PUT", name, headers)
        else:
            self._lock.create_by_headers(
                lambda lock: self._wire.ask("PUT", name, {**headers, **(NEW if new else {}), **lock})
            )
        return None

    def _send_again(self, source: str, key: str, sha256: str) -> None:
        """Read an object and send it as a new one, piece by piece: a condition that a copy lacks, a PUT has."""
        if (there := self._head(self._name(source))) is None:
            raise absent(self.place, source)
        self._put(self._name(key), partial(self.stream, source), int(there["content-length"]), sha256)

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Look, then delete; a bucket with versions keeps what was there. The store has no condition for it."""
        there = settled(self.place, require_removable(key), self._known(key, sha256, parts), sha256, parts)
        with self._telling(f"{key} to be removed from {self.place}"):
            if there:
                self._s3.delete_object(Bucket=self._bucket, Key=self._name(key))

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """End uploads in parts that nobody will continue."""
        with self._telling(f"unfinished uploads under {self.place}/{prefix} to be ended"):
            return [name.removeprefix(self._prefix) for name in self._divided.end_unfinished(self._prefix + prefix)]

    def head(self, key: str) -> StoredObject | None:
        """Ask for the digest that the store computed when it took the object; one that it was seen to make up is none.

        Who only reads has not tried that.
        """
        return self._told(key)

    def _told(self, key: str, version: str = "") -> StoredObject | None:
        with self._telling(f"the digest of {key} in {self.place}"):
            found = self._head(self._name(key), version)
        if found is None:
            return None
        there, seen = _stored(key, found), self._promises or KEPT
        if not seen.digests:
            return replace(there, sha256=None, composite="")
        return there if seen.refuses_parts else replace(there, composite="")

    def _head(self, name: str, version: str = "") -> Mapping[str, str] | None:
        query = f"?versionId={quote(version, safe='-_.~')}" if version else ""
        try:
            return self._wire.ask("HEAD", name, {"x-amz-checksum-mode": "ENABLED"}, query=query).headers
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
        return self._stream(key)

    def _stream(self, key: str, version: str = "") -> Iterator[bytes]:
        which = {"VersionId": version} if version else {}
        with self._telling(f"{key} to be read from {self.place}"):
            try:
                found = self._s3.get_object(Bucket=self._bucket, Key=self._name(key), **which)  # type: ignore[arg-type]
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
        told = {name.removeprefix(self._prefix): times for name, times in sorted(kept.items()) if times > 1}
        return {key: times for key, times in told.items() if not key.startswith(CANARIES)}

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All pages but the canary objects, then sorted: not every store sorts as S3 does."""
        with self._telling(f"a listing of {self.place}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            found = [item for page in pages for item in page.get("Contents", [])]
        for item in sorted(found, key=lambda item: item["Key"]):
            key = item["Key"].removeprefix(self._prefix)
            if not key.startswith(CANARIES):
                yield StoredObject(key, item["Size"], None, modified=item["LastModified"])

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
        except (BaseError, FileNotFoundError, BotoCoreError, Boto3Error, ClientError, HTTPError) as error:
            if isinstance(error, ClientError) and error.response["Error"].get("Code") == "PreconditionFailed":
                raise FileExistsError from error
            raise explain(error, expected) from error


def _size(source: Path | bytes) -> int:
    try:
        return len(source) if isinstance(source, bytes) else source.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error


def _stored(key: str, found: Mapping[str, str]) -> StoredObject:
    """The headers of a HEAD. A digest of parts ("…-3") is a digest of digests, and kept apart."""
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
    )
