"""Test a bucket's guarantees on canary objects: digests, conditions, locks. Servers ignore some without an error.

See docs/adr/0028.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

from botocore.exceptions import ClientError

from blocks.port import CANARIES
from blocks.s3.errors import is_denial, is_transient
from blocks.s3.parts import base64_of, body_headers
from blocks.s3.wire import Wire
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.promises import Promises
from tasks.custody.store.retention import Lock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ObjectLockRetentionModeType
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ObjectLockRetentionTypeDef

T = TypeVar("T")

NEW: Final = {"If-None-Match": "*"}
_NOTHING: Final[Mapping[str, str]] = {}
_TAKEN: Final = {"PreconditionFailed", "412"}
_BAD_REQUEST: Final = 400
_UNKNOWN: Final = {_BAD_REQUEST, 501}
"""Statuses by which servers refuse a header that they do not support."""
_LOCKED: Final = timedelta(minutes=5)


class _Where(TypedDict):
    Bucket: str
    Key: str


class Canary:
    """Two small objects that stay, and one more for each conditional copy, wrong digest that is accepted, and lock."""

    def __init__(self, client: "S3Client", wire: Wire, bucket: str, prefix: str, lock: Lock) -> None:
        """Take the clients. Sends nothing yet. `lock` is the lock mode asked, empty for none."""
        self._s3, self._wire, self._bucket, self._lock = client, wire, bucket, lock
        self._folder = prefix + CANARIES
        self._new: Mapping[str, str] = NEW
        self._rejects, self._refuses_parts = False, False

    def run(self) -> Promises:
        """Run all tests. Raises the clients' errors; if writing is denied, all guarantees are False."""
        try:
            return self._run_tests()
        except ClientError as error:
            if not is_denial(error):
                raise
            code = error.response["Error"].get("Code", "")
            refused = f"{code} at {self._folder}; allow s3:PutObject and s3:GetObject there"
            refused += ", and s3:PutObjectRetention" if self._lock else ""
            return Promises(*(False,) * 5, locks=not self._lock, untried=refused)

    def _run_tests(self) -> Promises:
        for name in ("one", "other"):
            answer = _call(partial(self._put, name, NEW))
            if isinstance(answer, ClientError) and _code(answer) not in _TAKEN:
                if _code(answer) == "NoSuchBucket":
                    raise answer
                self._put(name)  # without the condition, which the store does not support
                self._new, self._rejects = _NOTHING, True
        return Promises(
            # by a new name each time: a bad store keeps an object with a wrong checksum
            refuses=_is_bad(_call(lambda: self._put(f"wrong-{uuid4().hex}", self._new, wrong=b"another"))),
            tells=self._read_checksum("other") == _checksum(b"other"),
            puts=self._conditional(lambda: self._put("one", NEW)),
            copies=self._conditional(lambda: self._copy("one"))
            # to a free key the condition has to let it through: some stores compare it with the source
            and not isinstance(_call(lambda: self._copy(f"copied-{uuid4().hex}")), ClientError),
            parts=self._conditional(self._complete),
            locks=not self._lock or self._locks(),
            rejects=self._rejects,
            refuses_parts=self._refuses_parts,
        )

    def _put(self, name: str, headers: Mapping[str, str] = _NOTHING, wrong: bytes | None = None) -> Mapping[str, str]:
        """Put an object whose content is its name. The checksum header is that of `wrong` if given."""
        data = name.encode()
        every_header = {**headers, **body_headers(len(data), digest_bytes(wrong or data))}
        return self._wire.ask("PUT", self._folder + name, every_header, body=data, sha256=digest_bytes(data)).headers

    def _read_checksum(self, name: str) -> str:
        place, headers = self._folder + name, {"x-amz-checksum-mode": "ENABLED"}
        answer = _call(lambda: self._wire.ask("HEAD", place, headers))
        return "" if isinstance(answer, ClientError) else answer.headers.get("x-amz-checksum-sha256", "")

    def _conditional(self, act: Callable[[], object]) -> bool:
        """Return whether creating an existing object is refused by its condition."""
        answer = _call(act)
        if not isinstance(answer, ClientError):
            return False
        self._rejects |= _status(answer) in _UNKNOWN
        return _code(answer) in _TAKEN

    def _copy(self, name: str) -> object:
        source = quote(f"/{self._bucket}/{self._folder}other", safe="/-_.~")
        headers = {**NEW, "x-amz-copy-source": source, "Content-Length": "0"}
        return self._wire.ask("PUT", self._folder + name, headers)

    def _complete(self) -> None:
        name = f"{self._folder}one"
        where: _Where = {"Bucket": self._bucket, "Key": name}
        begun = self._s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
        try:
            # a part that is accepted is overwritten by the next of its number
            self._refuses_parts = _is_bad(_call(lambda: self._put_part(begun, b"another")))
            tag = self._put_part(begun, b"one")["etag"]
            parts: list[CompletedPartTypeDef] = [{"PartNumber": 1, "ETag": tag, "ChecksumSHA256": _checksum(b"one")}]
            self._s3.complete_multipart_upload(
                **where, UploadId=begun, IfNoneMatch="*", MultipartUpload={"Parts": parts}
            )
        finally:
            with suppress(ClientError):
                self._s3.abort_multipart_upload(**where, UploadId=begun)

    def _put_part(self, upload: str, claimed: bytes) -> Mapping[str, str]:
        """Put the first part of "one", with the checksum of `claimed`."""
        name, headers = f"{self._folder}one", body_headers(3, digest_bytes(claimed))
        query = f"?partNumber=1&uploadId={quote(upload, safe='-_.~')}"
        return self._wire.ask("PUT", name, headers, query=query, body=b"one", sha256=digest_bytes(b"one")).headers

    def _locks(self) -> bool:
        """Return whether a lock of five minutes prevents shortening and deleting, as far as this identity may try."""
        until = datetime.now(UTC) + _LOCKED
        spelled = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        lock = {"x-amz-object-lock-mode": self._lock.upper(), "x-amz-object-lock-retain-until-date": spelled}
        name = f"locked-{uuid4().hex}"
        answer = _call(lambda: self._put(name, {**self._new, **lock}))
        if isinstance(answer, ClientError):
            return False
        version = answer.get("x-amz-version-id", "")
        where: _Where = {"Bucket": self._bucket, "Key": self._folder + name}
        mode: ObjectLockRetentionModeType = "COMPLIANCE" if self._lock == "compliance" else "GOVERNANCE"
        sooner: ObjectLockRetentionTypeDef = {"Mode": mode, "RetainUntilDate": until - _LOCKED / 2}
        return (
            bool(version)
            and self._is_denied(lambda: self._s3.put_object_retention(**where, VersionId=version, Retention=sooner))
            and self._is_denied(lambda: self._s3.delete_object(**where, VersionId=version))
        )

    def _is_denied(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except ClientError as error:
            if is_transient(error):
                raise
            return True
        return False


def _call(act: Callable[[], T]) -> T | ClientError:
    """Return the result of `act`, or the ClientError that it raised. Raises denials and transient errors."""
    try:
        return act()
    except ClientError as error:
        if is_denial(error) or is_transient(error):
            raise
        return error


def _is_bad(answer: object) -> bool:
    """Return whether the request itself was refused (400), not its condition."""
    return isinstance(answer, ClientError) and _status(answer) == _BAD_REQUEST


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def _checksum(data: bytes) -> str:
    return base64_of(digest_bytes(data))
