"""Ask the Prefect server over HTTP by the standard library alone."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlsplit

_ANSWER_SECONDS: Final = 3.0


class NotNow(Exception):
    """Raised if this cannot be done before Prefect is imported, with the reason; the run does it."""


def fields_of(ask: Callable[..., Any], workload: object) -> dict[str, Any]:
    """Return the fields of a saved workload block."""
    name = quote(str(workload), safe="")
    fields: dict[str, Any] = ask(f"/block_types/slug/workload/block_documents/name/{name}")["data"]
    return fields


@contextmanager
def ask_server(environment: Mapping[str, str], seconds: float = _ANSWER_SECONDS) -> Iterator[Callable[..., Any]]:
    """Yield a function that sends a path (and a body to post) to the server and returns its JSON. One connection."""
    url = urlsplit(environment["PREFECT_API_URL"])
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=seconds)

    def ask(path: str, said: Any = None) -> Any:
        body = None if said is None else json.dumps(said)
        headers = {"Content-Type": "application/json", **_credentials(environment)}
        connection.request("GET" if body is None else "POST", url.path.rstrip("/") + path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in {200, 201}:
            raise NotNow(f"{path} is answered by HTTP {answer.status}")
        return json.loads(content)

    try:
        yield ask
    finally:
        connection.close()


def answers(environment: Mapping[str, str]) -> bool:
    """Return whether the Prefect server answers within the usual time limit."""
    try:
        with ask_server(environment) as ask:
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
