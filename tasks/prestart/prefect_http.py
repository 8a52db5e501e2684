"""Ask the Prefect server over HTTP by the standard library alone."""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tasks.prestart.reasons import NotNow

ANSWER_SECONDS: Final = 30.0
_SIGN_SECONDS: Final = 3.0
_IDLE_SECONDS: Final = 2.0


@contextmanager
def ask_server(environment: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> Iterator[Callable[..., Any]]:
    """Yield a function that sends a path (and a body to post) to the server and returns its JSON. One connection."""
    with ExitStack() as stack:
        connect = cache(lambda: stack.enter_context(_Connection(environment, seconds)))
        yield lambda path, said=None: connect().ask(path, said)


class _Connection:
    """One connection; opened again after an idle time in which the server may have closed it."""

    def __init__(self, environment: Mapping[str, str], seconds: float) -> None:
        url = urlsplit(environment["PREFECT_API_URL"])
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._http = kind(url.hostname or "", url.port, timeout=seconds)
        self._prefix = url.path.rstrip("/")
        self._headers = {"Content-Type": "application/json", **_credentials(environment)}
        self._answered = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, path: str, said: Any) -> Any:
        if time.monotonic() - self._answered > _IDLE_SECONDS:
            self._http.close()
        body = None if said is None else json.dumps(said)
        self._http.request("GET" if body is None else "POST", self._prefix + path, body, self._headers)
        answer = self._http.getresponse()
        content = answer.read()
        self._answered = time.monotonic()
        if answer.status not in {200, 201}:
            raise NotNow(f"{path} is answered by HTTP {answer.status}")
        return json.loads(content)


def answers(environment: Mapping[str, str]) -> bool:
    """Return whether the Prefect server answers within three seconds."""
    try:
        with ask_server(environment, _SIGN_SECONDS) as ask:
            ask("/health")
    except (NotNow, OSError, HTTPException, ValueError):
        return False
    return True


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if text := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    return {}
