"""§7: send requests to the restarted API. The workload is not trusted: answers are bounded in size and time.

See docs/adr/0027.
"""

import base64
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from blocks.workload_fields import WorkloadFields
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.redact import hide, redact

_ANSWER_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 14
_SHOWN: Final = 200
REFUSED: Final = frozenset({401, 403})
_SHORT: Final = 6
"""Shorter texts occur in any answer: they are no keys, and hiding them would garble it."""


class NotRecovered(EvacuationError):
    """The API did not come back as it should; the workload is contained again."""


def failure(expected: str, got: str) -> NotRecovered:
    """Build the error for an API that did not answer as expected."""
    consequence = "Whether the workload is contained, and how safe the evidence is, the verdict says."
    return NotRecovered(expected, got, consequence, "Fix the cause, then run the flow recover again.")


@dataclass(frozen=True)
class ApiResponse:
    """An answer of the API; status 0 with the reason in `body` if there was none. `hidden` values are never shown."""

    status: int
    body: bytes = field(repr=False)
    url: str = ""
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @property
    def good(self) -> bool:
        """True for status 2xx. A redirect is not good, because it leads elsewhere."""
        return httpx.codes.is_success(self.status)

    @property
    def summary(self) -> str:
        """URL, status and the beginning of the body, without secrets."""
        text = self.redact(self.body.decode(errors="backslashreplace"))
        return f"{self.url} answers HTTP {self.status}: {text!r}" if self.status else f"no answer of {self.url}: {text}"

    def redact(self, text: str) -> str:
        """Return the beginning of a text from the API, without the secrets that were sent."""
        for secret in self.hidden:
            text = text.replace(secret, hide(secret))
        return redact(text)[:_SHOWN]

    @property
    def content(self) -> Any:
        """The body parsed as JSON; None if it is not JSON."""
        with suppress(ValueError, RecursionError):
            return json.loads(self.body)
        return None


class Api(AbstractContextManager["Api"]):
    """Client of a workload's API, by the contract in its block. Never shows the headers, which hold the API's key."""

    def __init__(self, block: WorkloadFields, headers: Mapping[str, str] | None = None) -> None:
        """Configure the client without proxy, compression or redirects, so that no key goes elsewhere."""
        self.block, self.url = block, shown_address(block)
        self._hidden = tuple(sorted(_forms((headers or {}).values()), key=len, reverse=True))
        sent = {**(headers or {}), "accept-encoding": "identity"}
        self._client = httpx.Client(base_url=block.api_address, timeout=_ANSWER_SECONDS, trust_env=False, headers=sent)

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, method: str, path: str, **request: Any) -> ApiResponse:
        """Send a request; return its answer, of at most 1 MiB and 10 s."""
        deadline, body = time.monotonic() + _ANSWER_SECONDS, b""
        try:
            with self._client.stream(method, path, **request) as answer:
                status = answer.status_code
                for piece in answer.iter_raw(_PIECE):
                    body += piece
                    if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
                        status, body = 0, b"%d bytes and no end" % len(body)
                        break
        except httpx.HTTPError as error:
            status, body = 0, f"{type(error).__name__}: {error}".encode()
        return ApiResponse(status, body, f"{self.url}{path}", self._hidden)


def shown_address(block: WorkloadFields) -> str:
    """Return the API's address without secrets."""
    return redact(block.api_address)


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Yield what an answer may repeat of header values: each value, its words, and user and password of Basic."""
    for secret in secrets:
        words = [secret, *secret.split()]
        with suppress(ValueError):
            words += base64.b64decode(words[-1], validate=True).decode().split(":", 1)
        yield from (form for word in words for form in (word, json.dumps(word)[1:-1]) if len(word) >= _SHORT)


def advice(answer: ApiResponse) -> str:
    """Return what an operator may try, in brackets, for an answer that a key would change; else empty."""
    return " (does it want a key? api_headers; キーが必要なら api_headers)" if answer.status in REFUSED else ""
