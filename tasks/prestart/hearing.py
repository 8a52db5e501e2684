"""Ask the API by GET, in the moment before its freeze, which model it serves: only its answer tells what it has loaded.

It is asked while the look is prepared. Its own freeze comes last, and waits half a second at most for the answer; that
of the others waits 20 ms, and only if the API cannot be told from them. No key is sent. Standard library alone.
"""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

from tasks.custody.incident.description import address, leads_to
from tasks.system.time_limit import time_limit

ASKED_BY: Final = frozenset({"api_url", "api_command", "api_environment", "health_path", "model_at"})
"""Fields of the block."""
_ALONE_SECONDS: Final = 0.5
_SECONDS: Final = 1.0
_PATIENCE: Final = 0.02
_READ_SECONDS: Final = 0.1
_MOST: Final = 1 << 16
_END: Final = b"\r\n\r\n"
_PATH: Final = "/health"
_POINTER: Final = "/model"


class Hearing:
    """One question, asked in a thread of its own from now on; none if the block says that the API names no model."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Ask as the block's fields say, with its defaults for those that are missing."""
        self._answer = b""
        self._asking: socket.socket | None = None
        command, environment = fields.get("api_command") or (), fields.get("api_environment") or {}
        url = str(fields.get("api_url") or address(command, environment))
        path = str(fields.get("health_path") or _PATH)
        if fields.get("model_at", _POINTER) and urlsplit(url).scheme == "http":
            self._asking = socket.socket()
            self._asking.settimeout(_SECONDS)
            self._thread = Thread(target=self._ask, args=(self._asking, url, path), daemon=True)
            self._thread.start()

    def wait(self, *, alone: bool = False) -> None:
        """Wait until the answer is here, it is known that none comes, or the time for it is over.

        That is longer if the API is `alone`: all else stands, and what kept it from answering is over.
        """
        if self._asking:
            self._thread.join(time_limit().remaining(_ALONE_SECONDS if alone else _PATIENCE))

    def end(self) -> str:
        """Return the body of an answer 2xx that is here, empty if there is none; wait for no more of it."""
        if self._asking:
            with suppress(OSError):
                self._asking.shutdown(socket.SHUT_RDWR)  # what has come is read to its end
            self._thread.join(_READ_SECONDS)
        head, _, body = self._answer.partition(_END)
        words = head.split(b" ", 2)
        good = words[0].startswith(b"HTTP/") and words[1:2] and words[1].startswith(b"2")
        return body.decode(errors="backslashreplace") if good else ""

    def _ask(self, asking: socket.socket, url: str, path: str) -> None:
        until = time.monotonic() + _SECONDS
        with suppress(OSError, ValueError), asking:
            asking.connect(leads_to(url))
            name = urlsplit(url).netloc.rpartition("@")[2]
            lines = f"GET {path} HTTP/1.0\r\nHost: {name}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\r\n"
            asking.sendall(lines.encode())
            while len(self._answer) < _MOST and time.monotonic() < until and (piece := asking.recv(_MOST)):
                self._answer += piece
