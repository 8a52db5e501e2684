"""A way to a server that counts what is asked on it, and can be cut, or refuse websockets as some proxies do."""

import re
import socket
from contextlib import suppress
from threading import Thread
from typing import Final, Self
from urllib.parse import urlsplit

_ASKED: Final = re.compile(rb"(GET|POST|PATCH|PUT|DELETE) /api(\S*) HTTP/1\.1\r\n")
_BLOCK: Final = 1 << 16


class CountingProxy:
    """Relays connections; `asked` are the requests so far, as METHOD PATH.

    `websockets` may be refused from now on, or the event `stream` alone.

    With `dies_at` the server is gone as soon as something is asked that has these words, until they are emptied.
    """

    def __init__(self, api: str) -> None:
        """Listen on a free port of loopback."""
        url = urlsplit(api)
        self._there = (url.hostname or "", url.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.asked: list[str] = []
        self.websockets = self.stream = True
        self.dies_at = ""
        self.dead = False
        self.refused = 0
        self.api = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"

    def __enter__(self) -> Self:
        """Relay from now on."""
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and end every connection."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End every connection, as a server that dies does."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self.dead and self.dies_at:
                    near.close()
                    self.refused += 1
                    continue
                far = socket.create_connection(self._there)
                self._open += [near, far]
                Thread(target=self._relay, args=(near, far, True), daemon=True).start()
                Thread(target=self._relay, args=(far, near, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:  # noqa: FBT001  a direction
        with suppress(OSError):
            while part := source.recv(_BLOCK):
                if asks:
                    asked = [b" ".join(each).decode() for each in _ASKED.findall(part)]
                    self.asked += asked
                    if self.dies_at and any(self.dies_at in each for each in asked):
                        self.dead = True
                        self.cut()
                        break
                    if b"upgrade: websocket" in part.lower() and not self.websockets:
                        break
                    if "GET /events/out" in asked and not self.stream:
                        break
                sink.sendall(part)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the other direction closes its own
