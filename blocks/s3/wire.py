"""Send the few S3 requests that are made thousands of times, signed, over persistent connections.

A HEAD costs boto3 1.5 ms of CPU and this module a tenth of that or less. Errors are botocore's ClientError or
urllib3's.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import urllib3
from botocore.exceptions import ClientError

from blocks.s3.answers import Answers
from blocks.s3.line import S3ConnectionPool, S3Response
from blocks.s3.retry import with_retries
from blocks.s3.sign import sign_request
from tasks.custody.errors import PermanentStoreError

if TYPE_CHECKING:
    from botocore.credentials import Credentials

Body = bytes | Callable[[], Iterable[bytes]]
"""Bytes, or a function that yields the same bytes for each try."""
NOTHING_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_PIECE: Final = 1 << 18
_OK: Final = 300
_PORTS: Final = {"http": 80, "https": 443}


class Wire:
    """Sends signed requests to one bucket. Never follows redirects: the block names the endpoint."""

    def __init__(
        self,
        credentials: "Credentials",
        pool: urllib3.PoolManager,
        url: str,
        region: str,
        answers: Answers | None = None,
    ) -> None:
        """Sign with credentials that may renew themselves; `url` is that of the bucket. Sends nothing yet.

        `answers` learns what the store answers.
        """
        self._answers, self._seconds = answers or Answers(), float(pool.connection_pool_kw["timeout"])
        where = urlsplit(url)
        self._credentials, self._pool, self._region = credentials, pool, region
        self._root, self._path = f"{where.scheme}://{where.netloc}", where.path
        self._host = where.netloc.lower().removesuffix(f":{_PORTS[where.scheme]}")
        line = pool.connection_from_url(url)
        self._line = line if isinstance(line, S3ConnectionPool) and not pool.proxy else None

    def ask(  # noqa: PLR0913  the parts of a request
        self,
        method: str,
        name: str,
        headers: Mapping[str, str],
        *,
        query: str = "",
        body: Body = b"",
        sha256: str = NOTHING_SHA256,
    ) -> S3Response:
        """Send a request up to four times and return the response. Raises ClientError for an error status.

        `sha256` is the digest of the body, and part of the signature. A streamed body needs a Content-Length header.
        """
        target, all_headers = f"{self._path}/{quote(name, safe='/-_.~')}{query}", {"host": self._host, **headers}
        once = partial(self._once, method, target, all_headers, body, sha256)
        return with_retries(once, self._answers, self._seconds)

    def _once(self, method: str, target: str, headers: Mapping[str, str], body: Body, sha256: str) -> S3Response:
        keys = self._credentials.get_frozen_credentials()
        answer = self._send(method, target, sign_request(keys, self._region, method, target, headers, sha256), body)
        if answer.status >= _OK or (method != "GET" and b"<Error>" in answer.body[:200]):
            raise _refusal(method, answer.status, answer.body.decode(errors="replace"))
        return answer

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: Body) -> S3Response:
        """Send small bodies over `S3ConnectionPool`; streams, and requests through a proxy, by urllib3."""
        if isinstance(body, bytes) and self._line:
            return self._line.ask(method, target, headers, body)
        url, sent = self._root + target, body if isinstance(body, bytes) else self._note_pieces(body())
        named = {"Host" if name == "host" else name: value for name, value in headers.items()}  # else it adds its own
        response = self._pool.urlopen(method, url, body=sent, headers=named, retries=False, redirect=False)
        return S3Response(response.status, response.headers, response.data)

    def _note_pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a body in pieces; each but the first tells that the store takes them."""
        for number, piece in enumerate(body):
            if number:
                self._answers.hear()
            yield piece


def _refusal(method: str, status: int, text: str) -> ClientError:
    """Return the error of a response. A HEAD has no body, only a status; a copy may fail after status 200."""
    code, message = (re.search(rf"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
    error = {"Code": code[1] if code else str(status), "Message": message[1] if message else ""}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, method)  # type: ignore[typeddict-item]


def pieces(descriptor: int, source: Path, start: int, length: int) -> Iterator[bytes]:
    """Yield a range of an open file in pieces. Raises PermanentStoreError if the file has become too short."""
    end = start + length
    while start < end:
        piece = os.pread(descriptor, min(_PIECE, end - start), start)
        if not piece:
            raise PermanentStoreError(
                f"{end} bytes of {source}",
                f"only {start}: the file became shorter while it was sent",
                "Nothing was stored under this key.",
                "The source changed after it was hashed: compare it with its manifest.",
            )
        start += len(piece)
        yield piece
