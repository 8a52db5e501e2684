"""Record what a host asks and tells a Prefect server: a relay before it, which only keeps everything uncompressed."""

import contextlib
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, Final, Self

_PIECE: Final = 1 << 16
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_ID: Final = re.compile(rb'"(\w+)": *"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"')
_PACKED: Final = re.compile(rb"sec-websocket-extensions|accept-encoding", re.IGNORECASE)
_LONG: Final = 126
_SHORT: Final = 0x7F


@dataclass
class Asked:
    """A request, or a text that went over a websocket (method SEND).

    `link` is the connection's number; `made` are the ids in the server's answer, the first of each name.
    """

    at: float
    method: str
    path: str
    body: str = ""
    status: int = 0
    made: Mapping[str, str] = field(default_factory=dict)
    answered: float = 0.0
    link: int = 0


@dataclass
class Recorder:
    """Relays connections to a port of this machine; `asked` is what came so far, in order."""

    port_behind: int
    asked: list[Asked] = field(default_factory=list)
    _talks: list["_Talk"] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    @property
    def api(self) -> str:
        """What a client is given in the server's stead."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more; what is connected may end by itself."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port_behind))
                talk = _Talk(self)
                self._talks.append(talk)
                for source, sink, hear in ((client, server, talk.ask), (server, client, talk.answer)):
                    Thread(target=_pass_on, args=(source, sink, hear), daemon=True).start()

    def note(self, asked: Asked) -> None:
        """Keep it."""
        with self._lock:
            self.asked.append(asked)


class _Talk:
    """One connection: requests and answers in turn, until it becomes a websocket."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._waiting = recorder, list[Asked]()
        self._sent, self._got, self._socket = b"", b"", ""

    def ask(self, piece: bytes) -> None:
        self._sent += piece
        while (message := self._frame() if self._socket else self._request()) is not None:
            if message.path:
                message.link = id(self)
                self._recorder.note(message)

    def _request(self) -> Asked | None:
        head, body, self._sent = _message(self._sent)
        if head is None:
            return None
        method, path = head.split(b" ", 2)[:2]
        asked = Asked(time.monotonic(), method.decode(), path.decode().removeprefix("/api"), body.decode())
        if b"upgrade: websocket" in head.lower():
            self._socket, asked.method = asked.path, "OPEN"
        self._waiting.append(asked)
        return asked

    def _frame(self) -> Asked | None:
        """Take a whole frame off what has come; one that is no text has no path."""
        data = self._sent
        if len(data) < 2:  # noqa: PLR2004  a frame's least
            return None
        size, at = data[1] & _SHORT, 2
        if size >= _LONG:
            wide = 2 if size == _LONG else 8
            size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
        mask, at = data[at : at + 4], at + 4
        if len(data) < at + size:
            return None
        self._sent = data[at + size :]
        if data[0] & 0x0F != 1:
            return Asked(0, "", "")
        plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data[at : at + size]))
        return Asked(time.monotonic(), "SEND", self._socket, plain.decode())

    def answer(self, piece: bytes) -> None:
        self._got += piece
        while self._waiting and not self._socket:
            head, body, self._got = _message(self._got)
            if head is None:
                return
            asked = self._waiting.pop(0)
            asked.answered, asked.status = time.monotonic(), int(head.split(b" ", 2)[1])
            asked.made = ids_in(body)


def ids_in(body: bytes) -> dict[str, str]:
    """Return the ids in an object of JSON, the first of each name."""
    return {name.decode(): found.decode() for name, found in reversed(_ID.findall(body))}


def _message(data: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Return head and body of the first message of HTTP, and what follows; None as long as it is not whole."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None, b"", data
    if _CHUNKED.search(head):
        body, found, rest = rest.partition(b"0\r\n\r\n")
        return (head, _unchunked(body), rest) if found else (None, b"", data)
    length = int(match[1]) if (match := _LENGTH.search(head)) else 0
    return (head, rest[:length], rest[length:]) if len(rest) >= length else (None, b"", data)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


def _pass_on(source: socket.socket, sink: socket.socket, hear: Any) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            hear(piece)
            sink.sendall(_PACKED.sub(b"x-no-extensions", piece))
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    source.close()  # the other direction closes its own
