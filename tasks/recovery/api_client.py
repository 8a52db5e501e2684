"""§7: ask the API that was brought back. It is the workload's: nothing it says is trusted, no answer is endless."""

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.redact import HIDDEN, redact
from tasks.custody.models.canary import row_of
from tasks.custody.models.contract import prediction_in

if TYPE_CHECKING:
    from blocks.workload import Workload

_ANSWER_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 14
_POLL_SECONDS: Final = 0.2
_SHOWN: Final = 200
_UNAVAILABLE: Final = 503
_UNPROCESSABLE: Final = 422
_REFUSED: Final = frozenset({401, 403})
_SHORT: Final = 6
"""Texts of fewer letters stand in any answer: they are no keys, and hiding them would garble it."""


class NotRecovered(EvacuationError):
    """The API did not come back as it should; the workload is contained again."""


def failure(expected: str, got: str) -> NotRecovered:
    """Say what was expected of the API, and what came."""
    return NotRecovered(
        expected,
        got,
        "Whether the workload is contained, and how safe the evidence is, the verdict says.",
        "Mend the cause, then run the flow recover again.",
    )


@dataclass(frozen=True)
class ApiResponse:
    """What the API at a URL said; status 0 with the reason where it said nothing. `hidden` is never shown of it."""

    status: int
    body: bytes = field(repr=False)
    url: str = ""
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @property
    def good(self) -> bool:
        """2xx, and nothing else: a redirect leads away from what was asked."""
        return httpx.codes.is_success(self.status)

    @property
    def summary(self) -> str:
        """Who said it, the status and the beginning of the text, as it may be written down."""
        text = self.shown(self.body.decode(errors="backslashreplace"))
        return f"{self.url} answers HTTP {self.status}: {text!r}" if self.status else f"no answer of {self.url}: {text}"

    def shown(self, text: str) -> str:
        """The beginning of something that it said, without the keys that were sent."""
        for secret in self.hidden:
            text = text.replace(secret, HIDDEN)
        return redact(text)[:_SHOWN]

    @property
    def content(self) -> Any:
        """The JSON of it; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Prediction:
    """What a canary prediction came to: the answer, or why it proves nothing."""

    answer: str = ""
    unproven: str = ""


class Api:
    """The API of a workload, asked by the contract in its block. The headers, which hold its key, are shown nowhere."""

    def __init__(self, block: "Workload", headers: Mapping[str, str] | None = None) -> None:
        """No proxy, no compression, no redirects, so that no key goes elsewhere."""
        self.block, self.url = block, shown_address(block)
        self._hidden = tuple(sorted(_forms((headers or {}).values()), key=len, reverse=True))
        self._client = httpx.Client(
            base_url=block.api_address,
            timeout=_ANSWER_SECONDS,
            trust_env=False,
            headers={**(headers or {}), "accept-encoding": "identity"},
        )

    def __enter__(self) -> Self:
        """Keep the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        del kind, error, trace
        self._client.close()

    def ask(self, method: str, path: str, **request: Any) -> ApiResponse:
        """One answer, bounded in size and time."""
        status, body = self._ask(method, path, request)
        return ApiResponse(status, body, f"{self.url}{path}", self._hidden)

    def _ask(self, method: str, path: str, request: Mapping[str, Any]) -> tuple[int, bytes]:
        deadline = time.monotonic() + _ANSWER_SECONDS
        body = b""
        try:
            with self._client.stream(method, path, **request) as answer:
                for piece in answer.iter_raw(_PIECE):
                    body += piece
                    if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
                        return 0, b"%d bytes and no end" % len(body)
                return answer.status_code, body
        except httpx.HTTPError as error:
            return 0, f"{type(error).__name__}: {error}".encode()


def shown_address(block: "Workload") -> str:
    """Where the API answers, as it may be written down."""
    return redact(block.api_address)


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """What an error page may repeat of header values: each whole, its words, and the user and password of Basic."""
    for secret in secrets:
        words = [secret, *secret.split()]
        with suppress(ValueError):
            words += base64.b64decode(words[-1], validate=True).decode().split(":", 1)
        yield from (form for word in words for form in (word, json.dumps(word)[1:-1]) if len(word) >= _SHORT)


def wait_healthy(
    api: Api, lives: Callable[[], bool], listens: Callable[[], bool], seconds: float, log: Path | str
) -> tuple[str, str]:
    """Poll until it answers well, as long as what we started lives. How that ended, and why it is no proof, if so.

    Nobody is asked before what we started listens: the question may hold a key. One that answers and wants another
    path or key (3xx, 4xx) is up, and not proven healthy. NotRecovered if it ends, or never answers so.
    """
    began = time.monotonic()
    path, last = api.block.health_path, ApiResponse(0, b"what was started does not listen there", api.url)
    while (waited := time.monotonic() - began) < seconds and last.status not in _REFUSED:
        if not lives():
            raise failure("the API to keep running", f"what was started for {api.url} ended; see {log}")
        if listens():
            last = api.ask("GET", path)
        if last.good:
            return f"HTTP {last.status} after {waited:.1f} s", ""
        time.sleep(_POLL_SECONDS)
    if httpx.codes.is_redirect(last.status) or httpx.codes.is_client_error(last.status):
        return last.summary, f"that it is healthy: {last.summary}{_advice(last)}"
    raise failure(f"an answer from {api.url}{path} in {seconds:g} s", last.summary)


def _advice(answer: ApiResponse) -> str:
    return " (does it want a key? api_headers; キーが必要なら api_headers)" if answer.status in _REFUSED else ""


def predict(api: Api) -> Prediction:
    """One prediction, with the block's canary_request or else with a row made from /schema.

    NotRecovered without a model (503) and without an answer; any other answer that holds no prediction proves nothing,
    and is told. Where /schema names no columns the row is empty, and an API that fills in what is missing may answer
    it.
    """
    block, why = api.block, ""
    request: Any = block.canary_request
    if request is None:
        schema = api.ask("GET", "/schema")
        _require_model(schema)
        row = row_of(schema.content) if schema.good else {}
        request = {"features": row}
        why = "" if row else f"/schema names no columns ({schema.summary}), "
    answer = api.ask("POST", block.predict_path, json=request)
    _require_model(answer)
    found = prediction_in(answer.content, block.prediction_at) if answer.good else None
    if found is not None:
        return Prediction(answer.shown(json.dumps(found)))
    if answer.status == _UNPROCESSABLE:
        why += "it refuses the row that we made up, " if block.canary_request is None else "it refuses canary_request, "
    return Prediction(unproven=f"that it predicts: {why}{answer.summary}{_advice(answer)}")


def _require_model(answer: ApiResponse) -> None:
    if answer.status in {0, _UNAVAILABLE}:
        raise failure("the API to have a model loaded", answer.summary)
