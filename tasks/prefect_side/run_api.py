"""Answer what Prefect's client asks during a run by hand, in the run's own process: no server, no port, no file.

The client's engine decides on steps, retries and results. A server hears of one flow, one flow run and its artifacts,
of which nobody asks it anything: its start alone took more processor time than the whole run.

See docs/adr/0050.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partialmethod
from http import HTTPStatus
from threading import Lock
from typing import Any, Final
from uuid import uuid4

import httpx
import prefect
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

URL: Final = "http://evacuation.invalid/api"
"""Where the client looks for its server: nowhere else has an address this name (RFC 2606)."""
_KEPT: Final = re.compile(r"/(flows|flow_runs|artifacts)/(?:([0-9a-f-]{36})(/set_state)?)?")
_FIXED: Final = {
    "/hello": "👋",
    "/admin/version": prefect.__version__,
    "/admin/storage": {"default_result_storage_block_id": None},
}
_Json = dict[str, Any]


class RunApi(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The API of one run. What else is asked for is not found, as on an empty server."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[str, _Json] = {}
        self._lock = Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request as Prefect's server does."""
        path = request.url.path.removeprefix(httpx.URL(URL).path)
        with self._lock:
            status, content = self._answer(request.method, path, json.loads(request.read() or b"{}"))
            return httpx.Response(status, json=content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request as Prefect's server does."""
        return self.handle_request(request)

    def _answer(self, method: str, path: str, body: _Json) -> tuple[HTTPStatus, Any]:
        kind, key, sets_state = route.groups() if (route := _KEPT.fullmatch(path)) else ("", "", "")
        match method, self._known.get(f"{kind}/{key}"):
            case "GET", None if path in _FIXED:
                return HTTPStatus.OK, _FIXED[path]
            case "GET", dict(known):
                return HTTPStatus.OK, known
            case "POST", None if kind and not key:
                return HTTPStatus.CREATED, self._create(kind, body)
            case "POST", dict(known) if sets_state:
                return HTTPStatus.CREATED, _set_state(known, body["state"])
            case "PATCH", dict(known):
                known.update(body, updated=_now())
                return HTTPStatus.NO_CONTENT, None
        return HTTPStatus.NOT_FOUND, {"detail": "Not Found"}

    def _create(self, kind: str, body: _Json) -> _Json:
        created = {**body, "id": str(uuid4()), "created": _now(), "updated": _now()}
        if kind == "flow_runs":
            created |= {"name": body.get("name") or "by hand", "expected_start_time": _now(), "run_count": 0}
            _set_state(created, body["state"])
        self._known[f"{kind}/{created['id']}"] = created
        return created


@contextmanager
def answering(api: RunApi) -> Iterator[None]:
    """Let this answer every client of Prefect's that is made while the body runs and asks `URL`."""
    kinds: tuple[Any, ...] = (PrefectHttpxSyncClient, PrefectHttpxAsyncClient)
    before = [kind.__init__ for kind in kinds]
    for kind in kinds:
        kind.__init__ = partialmethod(kind.__init__, mounts={f"all://{httpx.URL(URL).host}": api})
    try:
        yield
    finally:
        for kind, init in zip(kinds, before, strict=True):
            kind.__init__ = init


def _set_state(run: _Json, proposal: _Json) -> _Json:
    """Let the flow run be in this state, and return Prefect's answer to that."""
    details = {**(proposal.get("state_details") or {}), "flow_run_id": run["id"]}
    if details.get("pause_reschedule"):  # nobody could resume it
        reason = "Cannot suspend flows without a deployment."
        return {"state": None, "status": "ABORT", "details": {"type": "abort_details", "reason": reason}}
    state = {**proposal, "id": str(uuid4()), "timestamp": _now(), "state_details": details}
    count = run["run_count"] + (state["type"] == "RUNNING")
    run.update(state=state, state_type=state["type"], state_name=state.get("name"), run_count=count, updated=_now())
    return {"state": state, "status": "ACCEPT", "details": {"type": "accept_details"}}


def _now() -> str:
    return datetime.now(UTC).isoformat()
