"""A real HTTP server that gives chosen answers, and our side of the connection to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from blocks.workload import Workload
from tasks.recovery.api_client import Api

WITHOUT_KEY = (401, b"a key is wanted")


@contextmanager
def api_that(
    answers: Mapping[str, tuple[int, bytes]],
    headers: Mapping[str, str] | None = None,
    key: tuple[str, str] | None = None,
    **block: Any,
) -> Iterator[Api]:
    """Serve these answers by path; to whoever sends no such key, a 401. The fields change the block."""

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            allowed = not key or self.headers.get(key[0]) == key[1]
            status, body = answers[self.path.partition("?")[0]] if allowed else WITHOUT_KEY
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the server's own names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with Api(Workload(**({"root": "/srv/a", "api_url": url} | block)), headers) as api:
            yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
