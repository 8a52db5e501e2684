"""Answer what Prefect's client asks during one run by hand: this process's own API, in a thread and in memory.

Prefect's server takes more processor time to start than the whole run. Of a run by hand nothing reads it: the client's
engine runs steps, retries and results, and tells the server of one flow run and its artifacts.
"""

import base64
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from threading import Lock, Thread
from typing import Any, Final, Self
from uuid import uuid4

from tasks.system.free_ports import free_ports

Json = dict[str, Any]
_API: Final = "/api"
_KEPT: Final = re.compile(r"/(flows|flow_runs|artifacts)/(?:([0-9a-f-]{36})(/set_state)?)?")
_NOT_FOUND: Final = HTTPStatus.NOT_FOUND, {"detail": "not kept by a run by hand"}
_FIXED: Final[Mapping[str, Any]] = {
    "/health": True,
    "/hello": "👋",
    "/admin/version": version("prefect"),
    "/admin/storage": {"default_result_storage_block_id": None},
}


class RunServer:
    """The API of one run: its flow, flow run and artifacts. What else is asked for is not found.

    It listens on loopback, answers nobody without its password, writes no file, and ends with this process.
    """

    def __init__(self) -> None:
        """Choose a port that no workload has, and a password, and listen."""
        self.auth = f"evacuation:{secrets.token_urlsafe(32)}"
        self._objects: dict[str, Json] = {}
        self._lock = Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", free_ports("server")["server"]), self._handler())
        self.api = f"http://127.0.0.1:{self._http.server_port}{_API}"

    def __enter__(self) -> Self:
        """Answer from now on."""
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="run server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer nobody any longer."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, body: Json) -> tuple[HTTPStatus, Any]:
        """Return status and content of the answer, as Prefect's server gives it."""
        if method == "GET" and path in _FIXED:
            return HTTPStatus.OK, _FIXED[path]
        if not (asked := _KEPT.fullmatch(path)):
            return _NOT_FOUND
        kind, key, sets_state = asked.groups()
        with self._lock:
            if method == "POST" and not key:
                return HTTPStatus.CREATED, self._create(kind, body)
            if (known := self._objects.get(f"{kind}/{key}")) is None:
                return _NOT_FOUND
            if method == "POST" and sets_state:
                return HTTPStatus.CREATED, _set_state(known, body["state"])
            if method == "PATCH":
                known.update(body, updated=_now())
                return HTTPStatus.NO_CONTENT, None
            return (HTTPStatus.OK, known) if method == "GET" else _NOT_FOUND

    def _create(self, kind: str, body: Json) -> Json:
        made = {**body, "id": str(uuid4()), "created": _now(), "updated": _now()}
        if kind == "flow_runs":
            made |= {"name": body.get("name") or "by hand", "expected_start_time": _now(), "run_count": 0}
            _set_state(made, body["state"])
        self._objects[f"{kind}/{made['id']}"] = made
        return made

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server, password = self, f"Basic {base64.b64encode(self.auth.encode()).decode()}".encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                given = self.headers.get("Authorization", "").encode()
                status, content = HTTPStatus.UNAUTHORIZED, {"exception_message": "Unauthorized"}
                if hmac.compare_digest(given, password):
                    path = self.path.partition("?")[0].removeprefix(_API)
                    status, content = server.answer(self.command, path, json.loads(text or b"{}"))
                data = b"" if status == HTTPStatus.NO_CONTENT else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815  the names that the standard library calls

            def log_message(self, *_: object) -> None:
                """Say nothing: the terminal is the run's."""

        return Handler


def _set_state(run: Json, state: Json) -> Json:
    """Let the flow run be in this state, and return Prefect's answer to that."""
    details = {**(state.get("state_details") or {}), "flow_run_id": run["id"]}
    state = {**state, "id": str(uuid4()), "timestamp": _now(), "state_details": details}
    count = run["run_count"] + (state["type"] == "RUNNING")
    run.update(state=state, state_type=state["type"], state_name=state.get("name"), run_count=count, updated=_now())
    return {"state": state, "status": "ACCEPT", "details": {"type": "accept_details"}}


def _now() -> str:
    return datetime.now(UTC).isoformat()
