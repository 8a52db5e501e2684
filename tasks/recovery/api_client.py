"""§7: ask the API that was brought back. It is the workload's: nothing it says is trusted, no answer is endless."""

import json
import os
import posixpath
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.redact import redact
from tasks.custody.models.canary import row_of
from tasks.custody.store.manifest import digest

_ANSWER_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 14
_POLL_SECONDS: Final = 0.2
_SHOWN: Final = 200
_UNAVAILABLE: Final = 503
_UNPROCESSABLE: Final = 422
_ANSWERS: Final = ("prediction", "predictions", "pred_proba", "pred")


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
    """What the API said; status 0 with the reason where it said nothing."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        """2xx, and nothing else: a redirect leads away from what was asked."""
        return httpx.codes.is_success(self.status)

    @property
    def summary(self) -> str:
        """The status and the beginning of the text, as it may be written down."""
        text = redact(self.body.decode(errors="backslashreplace"))[:_SHOWN]
        return f"HTTP {self.status}: {text!r}" if self.status else f"no answer: {text}"

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
    """The API at one address."""

    def __init__(self, url: str) -> None:
        """No proxy, no compression, no redirects."""
        self._client = httpx.Client(
            base_url=url, timeout=_ANSWER_SECONDS, trust_env=False, headers={"accept-encoding": "identity"}
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
        deadline = time.monotonic() + _ANSWER_SECONDS
        body = b""
        try:
            with self._client.stream(method, path, **request) as answer:
                for piece in answer.iter_raw(_PIECE):
                    body += piece
                    if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
                        return ApiResponse(0, b"%d bytes and no end" % len(body))
                return ApiResponse(answer.status_code, body)
        except httpx.HTTPError as error:
            return ApiResponse(0, f"{type(error).__name__}: {error}".encode())

    def must(self, method: str, path: str, what: str, **request: Any) -> ApiResponse:
        """One good answer, or the failure that `what` was not done."""
        answer = self.ask(method, path, **request)
        if not answer.good:
            raise failure(f"the API to {what}", answer.summary)
        return answer


def wait_healthy(api: Api, lives: Callable[[], bool], seconds: float, log: Path | str) -> str:
    """Poll until it answers, and only as long as what we started lives. How long it took, for the record."""
    began = time.monotonic()
    last = "no answer"
    while (waited := time.monotonic() - began) < seconds:
        if not lives():
            raise failure("the API to keep running", f"what was started ended; see {log}")
        answer = api.ask("GET", "/health")
        if answer.good:
            return f"HTTP {answer.status} after {waited:.1f} s"
        last = answer.summary
        time.sleep(_POLL_SECONDS)
    raise failure(f"an answer from /health in {seconds:g} s", last)


def reload(api: Api, path: str, sha256: str, models: Path) -> None:
    """Have it load one file by its name in the models folder, and no other: /reload opens any path that it is given."""
    file = _inside(models, path)
    if not file:
        raise failure(f"the manifest's newest model to be a file in {models}", path)
    if (now := digest(file)) != sha256:
        raise failure(f"{path} to have sha256 {sha256}, as in the manifest", now)
    api.must("POST", "/reload", f"reload {path}", params={"path": path})


def served(said: str, asked: str, models: Path) -> Path:
    """The file that the API's word means after it was asked for one; it must lie in the models folder."""
    path = _inside(models, meant(said, asked))
    if not path:
        raise failure(f"the API to serve {asked}, or another file in {models}", repr(said))
    return path


def say_served(api: Api) -> str:
    """What the API says it serves, which proves nothing: a path, or the base name of one."""
    said = api.must("GET", "/health", "say which model it serves").content
    return str(said.get("model") if isinstance(said, Mapping) else None)[:_SHOWN]


def meant(said: str, asked: str) -> str:
    """The path that /health means: a base name means the file that the API was asked for, if it is that one's."""
    return asked if said == posixpath.basename(asked) else said


def _inside(models: Path, name: str) -> Path | None:
    """The file that a name in the models folder leads to; None if it leads out of the workload or nowhere.

    A link may lead to another folder of the workload, as models/current to ../store/release-3.
    """
    with suppress(OSError, ValueError, RuntimeError):
        path = models.parent / name
        real, named = path.resolve(), Path(os.path.normpath(path)).is_relative_to(models)
        there = models.parent if named else models
        if real.is_relative_to(there.resolve()) and real.is_file():
            return real
    return None


def predict(api: Api) -> Prediction:
    """One prediction with a row made from /schema.

    503, another error, or an answer without a prediction is a failure. A row that the API refuses (422) is neither a
    failure nor a proof: the row is our invention. Where /schema names no columns the row is empty, and an API that
    fills in what is missing may answer it; all that such a row can show otherwise is that no model is loaded (503).
    """
    schema = api.ask("GET", "/schema")
    if schema.status in {0, _UNAVAILABLE}:
        raise failure("the API to have a model loaded", schema.summary)
    row = row_of(schema.content) if schema.good else {}
    answer = api.ask("POST", "/predict", json={"features": row})
    content = answer.content if answer.good else None
    found = (
        [content[name] for name in _ANSWERS if content.get(name) is not None] if isinstance(content, Mapping) else []
    )
    if found:
        return Prediction(redact(json.dumps(found[0]))[:_SHOWN])
    if answer.status == _UNPROCESSABLE:
        return Prediction(unproven=f"that it predicts: it refuses the row that we made up ({answer.summary})")
    if not row and answer.status not in {0, _UNAVAILABLE}:
        return Prediction(unproven=f"that it predicts: /schema names no columns ({schema.summary})")
    raise failure("a prediction from /predict", answer.summary)
