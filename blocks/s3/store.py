"""Keep evidence in S3: small objects by obstore, large ones in parts, copies and digests by signed requests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import quote

import obstore

from blocks import contract
from blocks.credentials import Credentials
from blocks.port import CANARIES, StoredObject, Tell, ignore_progress
from blocks.s3.canary import NEW, Canary
from blocks.s3.clients import ANSWER_SECONDS
from blocks.s3.lock import ObjectLock
from blocks.s3.parts import MultipartObjects, body_headers
from blocks.s3.read import S3Reader, stored_object
from blocks.s3.retry import with_retries
from blocks.s3.wire import Body, pieces
from tasks.custody.errors import Denied
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.promises import CreationWay, Promises, in_one_request
from tasks.custody.store.retention import NOTHING, Retention

STREAM_ABOVE: Final = 4 << 20
"""Bytes above which a file is streamed: obstore holds a whole create-only object in memory, in each thread."""


class S3Store(S3Reader):
    """A store in one bucket, under one prefix. Safe for use from many threads."""

    def __init__(  # noqa: PLR0913  the fields of the block
        self,
        bucket: str,
        prefix: str,
        *,
        credentials: Credentials | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        retention: Retention = NOTHING,
    ) -> None:
        """Make the clients. Sends nothing yet, unless the credentials need a token."""
        super().__init__(bucket, prefix, credentials, endpoint, region)
        self._lock, self._lock_mode, self._trying = ObjectLock(self._s3, bucket, retention), retention.lock, Lock()
        self._multipart = MultipartObjects(self._s3, self._wire, bucket, self._lock)

    def unfit(self) -> str:
        """Return why the bucket cannot retain objects as the block asks; empty if it can."""
        with self._explaining(f"the Object Lock configuration of {self.place}"):
            return self._lock.unfit

    def promises(self) -> Promises:
        """Return the bucket's guarantees, tested once with canary objects below the prefix."""
        with self._trying:
            if self._promises is None:
                with self._explaining(f"what {self.place} does, tried on objects of no value"):
                    lock_mode = self._lock_mode if self._lock.headers else ""
                    self._promises = Canary(self._s3, self._canary_wire, self._bucket, self._prefix, lock_mode).run()
            return self._promises

    def probe(self, name: str, data: bytes) -> StoredObject | None:
        """Replace a canary, locked for a day if the block asks for governance; return it as the store describes it.

        In a bucket with versions the one of before stays until a rule of the bucket removes it.
        """
        key, sha256 = CANARIES + name, digest_bytes(data)
        headers = body_headers(len(data), sha256)
        with self._explaining(f"{key} to be written in {self.place}"):
            if self._lock_mode == "governance" and not self._lock.unfit:
                headers |= self._lock.for_a_day
            self._canary_wire.ask("PUT", self._name(key), headers, body=data, sha256=sha256)
        return self.head(key)

    def create(
        self, key: str, source: Path | bytes, sha256: str, parts: Parts | None = None, tell: Tell = ignore_progress
    ) -> None:
        """Create an object by one conditional PUT, or in parts, depending on the store's promises.

        Small content is hashed here first; for a stream the store compares the digest. Objects to be locked are signed
        here at any size: obstore cannot send a lock.
        """
        size = _size(source)
        way = self.promises().way(size, divided=parts is not None)
        new = self.promises().conditional(way)
        is_present = self._check_versions if way is CreationWay.LOOKED else self.ensure_present
        if (size > STREAM_ABOVE or way is CreationWay.LOOKED) and is_present(key, sha256, parts):
            return
        with self._once(f"{key} to be created in {self.place}", key, sha256, parts, way):
            if not isinstance(source, Path) or size <= STREAM_ABOVE:
                data, name = contract.read_source(source), self._name(key)
                contract.require_digest(key, digest_bytes(data), sha256)
                if self._lock.headers:
                    self._put(name, data, len(data), sha256, new=new)
                else:
                    put = partial(obstore.put, self._objects, name, data, mode="create" if new else "overwrite")
                    with_retries(put, self._answers, ANSWER_SECONDS)
            elif parts and way is not CreationWay.SENT:
                self._multipart.send(self._name(key), source, parts, tell, new=new)
            else:
                size = parts.total if parts else size
                with contract.open_source(source) as file:
                    self._put(self._name(key), partial(pieces, file.fileno(), source, 0, size), size, sha256, new=new)
                tell(size)
        if parts:
            self._retain(key)

    @contextmanager
    def _once(self, expected: str, key: str, sha256: str, parts: Parts | None, way: CreationWay) -> Iterator[None]:
        """Accept an object that exists already in place of creating it, if its content is the same."""
        try:
            with self._explaining(expected):
                yield
        except FileExistsError:
            if not self.ensure_present(key, sha256, parts):
                raise contract.build_vanished_error(self.place, key) from None
        if way is CreationWay.LOOKED and not self._check_versions(key, sha256, parts):
            raise contract.build_vanished_error(self.place, key)

    def _put(self, name: str, body: Body, size: int, sha256: str, *, new: bool = True) -> None:
        headers = {**(NEW if new else {}), **body_headers(size, sha256)}
        self._lock.create_by_headers(
            lambda lock: self._wire.ask("PUT", name, {**headers, **lock}, body=body, sha256=sha256)
        )

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """Return whether the store's digest is that of this content. Adds a lock that an earlier run left out."""
        if not contract.has_content(self.place, key, self._identify(key, sha256, parts), sha256, parts):
            return False
        self._retain(key)
        return True

    def _check_versions(self, key: str, sha256: str, parts: Parts | None) -> bool:
        """Return whether this content is at the key. Raises Conflict if any readable version of the key differs.

        A PUT whose response was lost, and which was then retried, leaves two versions of one content.
        """
        there = self.ensure_present(key, sha256, parts)
        with suppress(Denied):
            several = (self.count_versions(key) or {}).get(key, 1) > 1
            for version in self._versions(key) if several else ():
                content = self._identify(key, sha256, parts, version)
                contract.has_content(self.place, f"version {version} of {key}", content, sha256, parts)
        return there

    def _retain(self, key: str) -> None:
        """Add the lock that an object lacks: some stores ignore the lock of a copy."""
        with self._explaining(f"{key} to be retained in {self.place}"):
            if self._lock.headers and (found := self._head(self._name(key))) is not None:
                since = parsedate_to_datetime(found["last-modified"])
                self._lock.complete(self._name(key), stored_object(key, found), since)

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Copy inside the bucket. The content is sent again only if the bucket has no conditional copy.

        With `replace` no lock is asked; some servers give a copy that of its source.
        """
        size = parts.total if parts else 0
        way = CreationWay.CONDITION if replace else self.promises().way(size, divided=parts is not None, copied=True)
        if way is CreationWay.LOOKED and self._check_versions(key, sha256, parts):
            return
        with self._once(f"{source} to be copied to {key} in {self.place}", key, sha256, parts, way):
            if way is CreationWay.SENT:  # downloaded and put as a new one: PUT has the condition that the copy lacks
                if (there := self._head(self._name(source))) is None:
                    raise contract.absent(self.place, source)
                self._put(self._name(key), partial(self.stream, source), int(there["content-length"]), sha256)
            else:
                new = not replace and self.promises().conditional(way)
                self._copy(self._name(source), self._name(key), parts, replace=replace, new=new)
            if not replace:
                self._retain(key)

    def _copy(self, source: str, name: str, parts: Parts | None, *, replace: bool, new: bool) -> None:
        headers = {"x-amz-copy-source": quote(f"/{self._bucket}/{source}", safe="/-_.~"), "Content-Length": "0"}
        if parts and not in_one_request(parts.total):
            self._multipart.copy(source, name, parts, replace=replace, new=new)
        elif replace:
            self._wire.ask("PUT", name, headers)
        else:
            self._lock.create_by_headers(
                lambda lock: self._wire.ask("PUT", name, {**headers, **(NEW if new else {}), **lock})
            )

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Check the digest, then delete: S3 has no conditional deletion. A bucket with versions keeps the content."""
        found = self._identify(contract.require_removable(key), sha256, parts)
        there = contract.has_content(self.place, key, found, sha256, parts)
        with self._explaining(f"{key} to be removed from {self.place}"):
            if there:
                self._s3.delete_object(Bucket=self._bucket, Key=self._name(key))

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """Abort unfinished multipart uploads under a prefix and return their keys."""
        with self._explaining(f"unfinished uploads under {self.place}/{prefix} to be ended"):
            return [name.removeprefix(self._prefix) for name in self._multipart.end_unfinished(self._prefix + prefix)]


def _size(source: Path | bytes) -> int:
    try:
        return len(source) if isinstance(source, bytes) else source.stat().st_size
    except OSError as error:
        raise contract.unreadable(source, error) from error
