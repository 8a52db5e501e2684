"""Send large objects to S3 in parts: several at a time, each with its SHA-256, and continued where a try broke off.

Which parts are there the server says, not a note of ours: unfinished uploads of a key are listed, and their parts
compared with those that were sealed.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from botocore.exceptions import ClientError

from blocks.s3_lock import ObjectLock
from blocks.s3_wire import Wire, pieces
from tasks.custody.evidence.parts import Part, Parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Parts of one object that are on their way together; none is held in memory whole."""
_Read = Callable[[int, int], Iterable[bytes]]
_GONE: Final = {"NoSuchUpload", "404"}
_MAY_NOT: Final = {"AccessDenied", "403", "MethodNotAllowed", "NotImplemented"}


class Divided:
    """Objects in parts in one bucket. Errors are those of the clients."""

    def __init__(self, client: "S3Client", wire: Wire, bucket: str, lock: ObjectLock) -> None:
        """Nothing is sent yet."""
        self._s3, self._wire, self._bucket, self._lock = client, wire, bucket, lock

    def send(self, name: str, source: Path, parts: Parts, tell: Callable[[int], object], *, new: bool) -> None:
        """Send what the server has not kept, then put it together, if `new` only where nobody else has the key."""
        with source.open("rb") as file:
            begun = list(self._begun(name))
            upload, done = (
                self._kept(name, begun[0], parts, partial(pieces, file.fileno(), source)) if begun else ("", {})
            )
            upload = upload or self._begin(name)

            def put(part: Part) -> None:
                done[part.number] = self._put(name, upload, part, file.fileno(), source)
                tell(part.length)

            self._together(put, [part for part in parts if part.number not in done])
        self._complete(name, upload, parts, done, new=new)
        self._end(name, (each for each in begun if each != upload))

    def copy(self, source: str, name: str, parts: Parts, *, replace: bool, new: bool) -> None:
        """Copy inside the bucket, in the same parts, so that the copy has the same digest."""
        upload, done = self._begin(name, locked=not replace), dict[int, str]()

        def copy(part: Part) -> None:
            stretch = f"bytes={part.start}-{part.start + part.length - 1}"
            origin = {"Bucket": self._bucket, "Key": source}
            address = {"Bucket": self._bucket, "Key": name, "UploadId": upload, "PartNumber": part.number}
            made = self._s3.upload_part_copy(**address, CopySource=origin, CopySourceRange=stretch)  # type: ignore[arg-type]
            done[part.number] = made["CopyPartResult"]["ETag"]

        try:
            self._together(copy, parts)
        except BaseException:
            self._end(name, [upload])
            raise
        self._complete(name, upload, parts, done, new=new)

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Name and id of each upload under a prefix that was begun and neither completed nor ended, newest first."""
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        found = [each for page in pages for each in page.get("Uploads", ())]
        for each in sorted(found, key=lambda each: each["Initiated"], reverse=True):
            yield each["Key"], each["UploadId"]

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """End them all; their names."""
        ended = list(self.unfinished(prefix))
        for name, upload in ended:
            self._end(name, [upload])
        return [name for name, _ in ended]

    def _begun(self, name: str) -> Iterator[str]:
        """Earlier uploads of one key. Where they may not be listed the file is sent from its beginning."""
        try:
            yield from (upload for found, upload in self.unfinished(name) if found == name)
        except ClientError as error:
            if error.response["Error"].get("Code") not in _MAY_NOT:
                raise
            logger.warning("What the store has kept of %s is not used: %s", name, error)

    def _begin(self, name: str, *, locked: bool = True) -> str:
        address = {"Bucket": self._bucket, "Key": name, "ChecksumAlgorithm": "SHA256", "ChecksumType": "COMPOSITE"}
        begin = partial(self._s3.create_multipart_upload, **address)  # type: ignore[arg-type]
        return str((self._lock.create(begin) if locked else begin())["UploadId"])

    def _kept(self, name: str, upload: str, parts: Parts, read: _Read) -> tuple[str, dict[int, str]]:
        """The upload, and the tags of those of its parts that are ours; an upload that is gone is none."""
        pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name, UploadId=upload)
        try:
            there = {each["PartNumber"]: each for page in pages for each in page.get("Parts", ())}
        except ClientError as error:
            if error.response["Error"].get("Code") not in _GONE:
                raise
            return "", {}
        known = ((part, there[part.number]) for part in parts if part.number in there)
        return upload, {part.number: found["ETag"] for part, found in known if _is(found, part, read)}

    def _put(self, name: str, upload: str, part: Part, descriptor: int, source: Path) -> str:
        headers = {"Content-Length": str(part.length), "x-amz-checksum-sha256": base64_of(part.sha256)}
        query = f"?partNumber={part.number}&uploadId={quote(upload, safe='-_.~')}"
        body = partial(pieces, descriptor, source, part.start, part.length)
        return self._wire.ask("PUT", name, headers, query=query, body=body, sha256=part.sha256).headers["etag"]

    def _together(self, act: Callable[[Part], None], parts: Iterable[Part]) -> None:
        """Several at a time; the first error lets those on their way end, begins no more, and is raised."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(act, part) for part in parts]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _complete(self, name: str, upload: str, parts: Parts, done: dict[int, str], *, new: bool) -> None:
        made: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": done[part.number], "ChecksumSHA256": base64_of(part.sha256)}
            for part in parts
        ]
        address: dict[str, str] = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
        only = {"IfNoneMatch": "*"} if new else {}
        try:
            self._s3.complete_multipart_upload(**address, **only, MultipartUpload={"Parts": made})  # type: ignore[arg-type]
        except ClientError as error:
            if error.response["Error"].get("Code") == "PreconditionFailed":
                self._end(name, [upload])
            raise

    def _end(self, name: str, uploads: Iterable[str]) -> None:
        """End uploads that nobody continues. One that may not be ended costs room, and nothing of the evidence."""
        for upload in uploads:
            try:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
            except ClientError as error:
                if error.response["Error"].get("Code") not in _GONE:
                    logger.warning("An unfinished upload of %s could not be ended: %s", name, error)


def base64_of(sha256: str) -> str:
    """A digest as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _is(there: "PartTypeDef", part: Part, read: _Read) -> bool:
    """Whether the server has kept our part: by its SHA-256, or, where it tells none, by its tag, the part's MD5.

    That says what need not be sent again, and no more: what is put together is judged by the digest of the whole.
    """
    if there["Size"] != part.length:
        return False
    if told := there.get("ChecksumSHA256"):
        return told == base64_of(part.sha256)
    seen = hashlib.md5(usedforsecurity=False)
    for piece in read(part.start, part.length):
        seen.update(piece)
    return there["ETag"].strip('"') == seen.hexdigest()
