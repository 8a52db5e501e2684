"""Upload large objects to S3 in parallel parts, each with its SHA-256, and resume interrupted uploads.

The server says which parts exist, not a local note: unfinished uploads of the key are listed, and their parts compared
with the sealed ones.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from botocore.exceptions import ClientError

from blocks.s3.lock import ObjectLock
from blocks.s3.wire import Wire, pieces
from tasks.custody.evidence.part_sizes import Part, Parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Parts in transfer at a time, of all objects. Parts are streamed, never held in memory."""
_Read = Callable[[int, int], Iterable[bytes]]
_GONE: Final = {"NoSuchUpload", "404"}
_MAY_NOT: Final = {"AccessDenied", "403", "MethodNotAllowed", "NotImplemented"}


class MultipartObjects:
    """Multipart objects in one bucket. Raises the clients' errors."""

    def __init__(self, client: "S3Client", wire: Wire, bucket: str, lock: ObjectLock) -> None:
        """Take clients and lock. Sends nothing yet."""
        self._s3, self._wire, self._bucket, self._lock = client, wire, bucket, lock
        self._transfers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="parts")

    def send(self, name: str, source: Path, parts: Parts, tell: Callable[[int], object], *, new: bool) -> None:
        """Upload the parts that the server does not have, then complete the object; `new` asks for a free key."""
        with source.open("rb") as file:
            begun = list(self._find_unfinished(name))
            upload, done = "", dict[int, str]()
            if begun:
                upload, done = self._find_kept_parts(name, begun[0], parts, partial(pieces, file.fileno(), source))
            upload = upload or self._begin(name)

            def put(part: Part) -> None:
                headers = body_headers(part.length, part.sha256)
                query = f"?partNumber={part.number}&uploadId={quote(upload, safe='-_.~')}"
                body = partial(pieces, file.fileno(), source, part.start, part.length)
                answer = self._wire.ask("PUT", name, headers, query=query, body=body, sha256=part.sha256)
                done[part.number] = answer.headers["etag"]
                tell(part.length)

            self._together(put, [part for part in parts if part.number not in done])
        self._complete(name, upload, parts, done, new=new)
        self._end(name, (each for each in begun if each != upload))

    def copy(self, source: str, name: str, parts: Parts, *, replace: bool, new: bool) -> None:
        """Copy inside the bucket in the same parts, so that the copy has the same composite digest."""
        upload, done = self._begin(name, locked=not replace), dict[int, str]()

        def copy(part: Part) -> None:
            stretch = f"bytes={part.start}-{part.start + part.length - 1}"
            origin = {"Bucket": self._bucket, "Key": source}
            address = {"Bucket": self._bucket, "Key": name, "UploadId": upload, "PartNumber": part.number}
            answer = self._s3.upload_part_copy(**address, CopySource=origin, CopySourceRange=stretch)  # type: ignore[arg-type]
            done[part.number] = answer["CopyPartResult"]["ETag"]

        try:
            self._together(copy, parts)
        except BaseException:
            self._end(name, [upload])
            raise
        self._complete(name, upload, parts, done, new=new)

    def list_unfinished(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield name and id of each unfinished upload under a prefix, newest first."""
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        found = [each for page in pages for each in page.get("Uploads", ())]
        for each in sorted(found, key=lambda each: each["Initiated"], reverse=True):
            yield each["Key"], each["UploadId"]

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """Abort all unfinished uploads under a prefix and return their names."""
        ended = list(self.list_unfinished(prefix))
        for name, upload in ended:
            self._end(name, [upload])
        return [name for name, _ in ended]

    def _find_unfinished(self, name: str) -> Iterator[str]:
        """Yield unfinished uploads of one key; none if listing is denied, so the whole file is sent."""
        try:
            yield from (upload for found, upload in self.list_unfinished(name) if found == name)
        except ClientError as error:
            if error.response["Error"].get("Code") not in _MAY_NOT:
                raise
            logger.warning("What the store has kept of %s is not used: %s", name, error)

    def _begin(self, name: str, *, locked: bool = True) -> str:
        address = {"Bucket": self._bucket, "Key": name, "ChecksumAlgorithm": "SHA256", "ChecksumType": "COMPOSITE"}
        begin = partial(self._s3.create_multipart_upload, **address)  # type: ignore[arg-type]
        return str((self._lock.create(begin) if locked else begin())["UploadId"])

    def _find_kept_parts(self, name: str, upload: str, parts: Parts, read: _Read) -> tuple[str, dict[int, str]]:
        """Return the upload id, and the tags of its parts that are ours; ("", {}) if the upload no longer exists."""
        pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name, UploadId=upload)
        try:
            there = {each["PartNumber"]: each for page in pages for each in page.get("Parts", ())}
        except ClientError as error:
            if error.response["Error"].get("Code") not in _GONE:
                raise
            return "", {}
        pairs = ((part, there[part.number]) for part in parts if part.number in there)
        return upload, {part.number: found["ETag"] for part, found in pairs if _is(found, part, read)}

    def _together(self, act: Callable[[Part], None], parts: Iterable[Part]) -> None:
        """Run `act` on several parts at a time, after those of objects begun before: so the line is never idle.

        After an error, finish those running, start no more, and raise it.
        """
        futures = [self._transfers.submit(act, part) for part in parts]
        try:
            for future in futures:
                future.result()
        finally:
            wait([future for future in futures if not future.cancel()])

    def _complete(self, name: str, upload: str, parts: Parts, done: dict[int, str], *, new: bool) -> None:
        part_list: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": done[part.number], "ChecksumSHA256": base64_of(part.sha256)}
            for part in parts
        ]
        address: dict[str, str] = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
        only = {"IfNoneMatch": "*"} if new else {}
        try:
            self._s3.complete_multipart_upload(**address, **only, MultipartUpload={"Parts": part_list})  # type: ignore[arg-type]
        except ClientError as error:
            if error.response["Error"].get("Code") == "PreconditionFailed":
                self._end(name, [upload])
            raise

    def _end(self, name: str, uploads: Iterable[str]) -> None:
        """Abort uploads. A failure costs storage but no evidence: it is logged as a warning."""
        for upload in uploads:
            try:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
            except ClientError as error:
                if error.response["Error"].get("Code") not in _GONE:
                    logger.warning("An unfinished upload of %s could not be ended: %s", name, error)


def body_headers(size: int, sha256: str) -> dict[str, str]:
    """Return the headers of a body: its length and digest, and the name that S3 asks for where a lock is asked."""
    checksum = {"x-amz-sdk-checksum-algorithm": "SHA256", "x-amz-checksum-sha256": base64_of(sha256)}
    return {"Content-Length": str(size), **checksum}


def base64_of(sha256: str) -> str:
    """Return a hexadecimal digest as base64, as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _is(there: "PartTypeDef", part: Part, read: _Read) -> bool:
    """Return whether the server has our part, by its SHA-256 or, if it reports none, by its tag (the part's MD5).

    This decides only what need not be sent again: the completed object is checked by the digest of the whole.
    """
    if there["Size"] != part.length:
        return False
    if checksum := there.get("ChecksumSHA256"):
        return checksum == base64_of(part.sha256)
    digest = hashlib.md5(usedforsecurity=False)
    for piece in read(part.start, part.length):
        digest.update(piece)
    return there["ETag"].strip('"') == digest.hexdigest()
