"""Ask the Prefect server over HTTP by the standard library alone."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tasks.prestart.reasons import NotNow
from tasks.system.server_date import time_told

ANSWER_SECONDS: Final = 30.0
_SIGN_SECONDS: Final = 3.0
_IDLE_SECONDS: Final = 2.0


@contextmanager
def ask_server(environment: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> Iterator["Server"]:
    """Yield the server that the environment names. One connection, opened by the first question."""
    with ExitStack() as stack:
        yield Server(environment, seconds, stack)


class Server:
    """A Prefect server, whose answers come within so many seconds or raise."""

    def __init__(self, environment: Mapping[str, str], seconds: float, stack: ExitStack) -> None:
        """Ask nothing yet. What is opened ends with the stack."""
        self._environment, self._seconds, self._stack = environment, seconds, stack

    @cached_property
    def _connection(self) -> "_Connection":
        return self._stack.enter_context(_Connection(self._environment, self._seconds))

    def __call__(self, path: str, said: Any = None) -> Any:
        """Send a path (and a body to post), return the answer's JSON."""
        return json.loads(self._connection.ask(path, said)[0])

    def time(self) -> datetime:
        """Return the time by its clock; by this host's if its answer has none."""
        return time_told(self._connection.ask("/hello", None)[1]) or datetime.now(UTC)


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

    def ask(self, path: str, said: Any) -> tuple[bytes, str]:
        if time.monotonic() - self._answered > _IDLE_SECONDS:
            self._http.close()
        body = None if said is None else json.dumps(said)
        self._http.request("GET" if body is None else "POST", self._prefix + path, body, self._headers)
        answer = self._http.getresponse()
        content = answer.read()
        self._answered = time.monotonic()
        if answer.status not in {200, 201}:
            raise NotNow(f"{path} is answered by HTTP {answer.status}")
        return content, answer.headers.get("Date", "")


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
