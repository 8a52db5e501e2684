"""Ask the Prefect server over HTTP by the standard library alone."""

import base64
import json
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from tasks.prestart.reasons import NotNow
from tasks.system.server_date import parse_date_header

ANSWER_SECONDS: Final = 30.0
_SIGN_SECONDS: Final = 3.0
_IDLE_SECONDS: Final = 2.0


def ask_server(environment: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> "closing[Server]":
    """Enter the server that the environment names. One connection, opened by the first question."""
    return closing(Server(environment, seconds))


class Server:
    """A Prefect server, whose answers come within so many seconds or raise.

    Its connection is opened again after an idle time in which the server may have closed it.
    """

    def __init__(self, environment: Mapping[str, str], seconds: float) -> None:
        """Ask nothing yet."""
        self._environment, self._seconds = environment, seconds
        self._http: HTTPConnection | None = None
        self._answered = 0.0

    def __call__(self, path: str, body: Any = None) -> Any:
        """Send a path (and a body to post), return the answer's JSON."""
        return json.loads(self._ask(path, body)[0])

    def time(self) -> datetime:
        """Return the time by its clock; by this host's if its answer has none."""
        return parse_date_header(self._ask("/hello", None)[1]) or datetime.now(UTC)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._http:
            self._http.close()

    def _ask(self, path: str, payload: Any) -> tuple[bytes, str]:
        """Return the answer's content and its `Date`."""
        url = urlsplit(self._environment["PREFECT_API_URL"])
        if self._http is None:
            kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
            self._http = kind(url.hostname or "", url.port, timeout=self._seconds)
        elif time.monotonic() - self._answered > _IDLE_SECONDS:
            self._http.close()
        body = None if payload is None else json.dumps(payload)
        headers = {"Content-Type": "application/json", **_credentials(self._environment)}
        self._http.request("GET" if body is None else "POST", url.path.rstrip("/") + path, body, headers)
        answer = self._http.getresponse()
        content = answer.read()
        self._answered = time.monotonic()
        if answer.status not in {200, 201}:
            raise NotNow(f"{path} is answered by HTTP {answer.status}")
        return content, answer.headers.get("Date", "")


def answers(environment: Mapping[str, str]) -> bool:
    """Return whether the Prefect server answers within three seconds."""
    with suppress(NotNow, OSError, HTTPException, ValueError), ask_server(environment, _SIGN_SECONDS) as ask:
        ask("/health")
        return True
    return False


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if text := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    return {}
