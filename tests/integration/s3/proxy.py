"""A proxy between client and server that breaks what it is told to break. HTTP, on loopback only.

It passes requests on as they come, signatures and all, and knows which of them the client was told had succeeded.
"""

import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Self
from urllib.parse import unquote, urlsplit

PIECE = 1 << 16
CANARY = "/.evacuation-canary/"
Act = Callable[["Exchange"], None]


def _nothing(_: object) -> None:
    """Nobody is told, and nothing is changed."""


@dataclass
class Rule:
    """What happens to the next requests that it fits: to so many, after so many others were let through."""

    act: Act
    method: str = "PUT"
    path: str = "/evidence/"
    skip: int = 0
    times: int = 1

    def takes(self, method: str, path: str) -> bool:
        """Whether this one is to be broken; it is counted."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, path) or not self.times:
            return False
        self.skip -= 1
        if self.skip >= 0:
            return False
        self.times -= 1
        return True


class Exchange(BaseHTTPRequestHandler):
    """One connection of the client, and one to the server beside it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer's head and body are two packets: the second would wait 40 ms
    server: "_Server"

    def setup(self) -> None:
        """Begin with no connection to the server."""
        super().setup()
        self.upstream = HTTPConnection("127.0.0.1", self.server.proxy.port_behind, timeout=60)

    def finish(self) -> None:
        """Leave none behind."""
        self.upstream.close()
        super().finish()

    def handle_one_request(self) -> None:
        """A client that goes away in the middle is no error of ours."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def exchange(self) -> None:
        """Break it, or pass it on."""
        rule = self.server.proxy.rule_for(self.command, unquote(self.path))
        if rule is None:
            self.pass_on()
        else:
            rule.act(self)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = exchange  # noqa: N815  the names that http.server asks for

    def pass_on(
        self,
        change: Callable[[dict[str, str]], object] = _nothing,
        *,
        meanwhile: Callable[[int], object] = _nothing,
        answer: bool = True,
    ) -> None:
        """Ask the server; `change` may alter the answer's headers, `meanwhile` hears of the bytes that have passed."""
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        headers = self.server.proxy.ask(self.command, self.path, headers)
        self.upstream.request(self.command, self.path, self.body(meanwhile), headers)
        answered = self.upstream.getresponse()
        content = answered.read()
        if answer:
            self._give_back(answered, content, change)
        else:
            self.cut()

    def _give_back(self, answered: HTTPResponse, content: bytes, change: Callable[[dict[str, str]], object]) -> None:
        told = {name: value for name, value in answered.getheaders() if name.lower() != "transfer-encoding"}
        if self.command != "HEAD":
            told["Content-Length"] = str(len(content))
        change(told)
        self.server.proxy.tell(self.command, self.path, told)
        self.server.proxy.note(self.command, unquote(self.path), answered.status)
        self.log_request(answered.status)
        self.send_response_only(answered.status)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    @property
    def length(self) -> int:
        """Bytes of the request's body."""
        return int(self.headers.get("Content-Length", 0))

    def body(self, meanwhile: Callable[[int], object] = _nothing) -> Iterator[bytes]:
        """The request's body as it comes."""
        passed = 0
        while passed < self.length and (piece := self.rfile.read(min(PIECE, self.length - passed))):
            yield piece
            passed += len(piece)
            meanwhile(passed)

    def refuse(self, status: int, code: str) -> None:
        """Answer in the server's stead."""
        for _ in self.body():
            pass
        content = f"<Error><Code>{code}</Code><Message>said by the proxy</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def cut(self) -> None:
        """Reset the connection, as a router does that has forgotten it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.rfile.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
        """Say nothing."""


def refuse(status: int, code: str) -> Act:
    """An error that the server itself never gave."""
    return lambda exchange: exchange.refuse(status, code)


def cut_after(size: int) -> Act:
    """The connection is lost after so many bytes of the body."""

    def act(exchange: Exchange) -> None:
        exchange.rfile.read(min(size, exchange.length))
        exchange.cut()

    return act


def lose_the_answer(exchange: Exchange) -> None:
    """The server does what it is asked, and the client never hears of it."""
    exchange.pass_on(answer=False)


def stall(until: Event) -> Act:
    """Nothing is read and nothing is answered, and the connection stays open."""

    def act(exchange: Exchange) -> None:
        until.wait(60)
        exchange.cut()

    return act


def lie(header: str, value: Callable[[str], str]) -> Act:
    """The answer tells something else of the object than the server did."""

    def change(headers: dict[str, str]) -> None:
        for name in [name for name in headers if name.lower() == header]:
            headers[name] = value(headers[name])

    return lambda exchange: exchange.pass_on(change)


def meanwhile(act: Callable[[], object], after: int = 1) -> Act:
    """Once so many bytes of the body have passed, something else happens; then the rest goes on."""
    done = Event()

    def tell(size: int) -> None:
        if size >= after and not done.is_set():
            done.set()
            act()

    return lambda exchange: exchange.pass_on(meanwhile=tell)


def dawdle(seconds: float) -> Act:
    """After its first bytes nothing is read for a while, until the client's buffers are full, and then the rest."""
    waited = Event()

    def wait(size: int) -> None:
        del size
        waited.wait(seconds)
        waited.set()

    return lambda exchange: exchange.pass_on(meanwhile=wait)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: "Proxy"

    def server_bind(self) -> None:
        """Small buffers: what is not read here is soon not taken there."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        super().server_bind()


@dataclass
class Proxy:
    """A door of its own before a server; rules may come and go while it is used."""

    endpoint_behind: str
    rules: list[Rule] = field(default_factory=list)
    answered: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    @property
    def port_behind(self) -> int:
        """The server's port."""
        return urlsplit(self.endpoint_behind).port or 80

    @property
    def endpoint(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def ask(self, method: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """The headers of a request as the server gets them."""
        del method, target
        return headers

    def tell(self, method: str, target: str, headers: dict[str, str]) -> None:
        """Alter the headers of an answer."""

    def rule_for(self, method: str, path: str) -> Rule | None:
        """The first that takes it. What is tried on canary objects is passed on uncounted, unless a rule names them."""
        with self._lock:
            if CANARY in path:
                return next((rule for rule in self.rules if "canary" in rule.path and rule.takes(method, path)), None)
            self.asked[method] += 1
            return next((rule for rule in self.rules if rule.takes(method, path)), None)

    def note(self, method: str, path: str, status: int) -> None:
        """What the client is about to hear."""
        with self._lock:
            if CANARY not in path:
                self.answered[method, path, status] += 1

    def stored(self, pattern: str = "/evidence/") -> Counter[str]:
        """How often the client was told that an object, or a part of one, was taken."""
        taken = Counter[str]()
        for (method, path, status), times in self.answered.items():
            if (method, status) == ("PUT", 200) and re.search(pattern, path):
                taken[path] += times
        return taken

    def __enter__(self) -> Self:
        """Listen."""
        self._server = _Server(("127.0.0.1", 0), Exchange)
        self._server.proxy = self
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
