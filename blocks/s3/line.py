"""Send one small HTTP/1.1 request and read its response (RFC 9112) over a persistent connection of urllib3.

An incident sends two or three of them a file. What urllib3 and http.client do around each costs more than all the rest.
Connecting, TLS and the pool are still urllib3's.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from socket import socket
from typing import Final, cast

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import InvalidHeader, ProtocolError, ReadTimeoutError, SSLError

_PIECE: Final = 1 << 16
_HEAD_LIMIT: Final = 1 << 16
_BODY_LIMIT: Final = 1 << 24
_END: Final = b"\r\n"

_DIGITS: Final = {10: re.compile("[0-9]{1,16}"), 16: re.compile("[0-9A-Fa-f]{1,16}")}


@dataclass(frozen=True)
class S3Response:
    """A response: status, headers by lower-case name, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class S3ConnectionPool(HTTPConnectionPool):
    """A connection pool for one endpoint."""

    def __str__(self) -> str:
        """Name what it connects to, as urllib3's messages begin with it."""
        return f"{self.host}:{self.port}"

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> S3Response:
        """Send a request once. Raises urllib3's errors, InvalidHeader before sending; then closes the connection."""
        connection = cast("HTTPConnection", self._get_conn())
        try:
            if connection.is_closed:
                self._validate_conn(connection)
                if connection.is_closed:
                    connection.connect()
            return _exchange(connection, method, target, headers, body)
        except BaseException as error:
            connection.close()
            if isinstance(error, ssl.SSLError):
                raise SSLError(error) from error
            if isinstance(error, TimeoutError):
                raise ReadTimeoutError(self, target, "no answer in time") from error
            if isinstance(error, OSError):
                raise ProtocolError("the connection was lost", error) from error
            raise
        finally:
            self._put_conn(connection)


def _exchange(
    connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> S3Response:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    if wrong := [line.partition(":")[0] for line in lines if not (line.isascii() and line.isprintable())]:
        raise InvalidHeader(f"a line break, or another character than printable ASCII, in {wrong[0]!r}")
    connection.sock.sendall("\r\n".join(lines).encode("latin-1") + body)
    reader = Reader(connection.sock)
    status, answered = reader.head()
    while status < HTTPStatus.OK:
        status, answered = reader.head()
    nothing = method == "HEAD" or status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
    answer = S3Response(status, answered, b"" if nothing else reader.body(answered))
    if reader.ended or reader.buffer or answered.get("connection", "").lower() == "close":
        connection.close()
    return answer


class Reader:
    """Reads responses from a socket, within limits on head and body."""

    def __init__(self, origin: socket) -> None:
        """Start with an empty buffer."""
        self._origin, self.buffer, self.ended = origin, b"", False

    def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of a response. Repeated headers are joined with commas (RFC 9110, 5.3)."""
        first, *lines = self._until(_END + _END).decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise ProtocolError(f"no HTTP: {first[:80]!r}")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            key, text = name.lower(), value.strip()
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return int(rest[:3]), headers

    def body(self, headers: Mapping[str, str]) -> bytes:
        """Return the body: chunked, of the given length, or up to the end of the connection."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            content = bytearray()
            while size := _size(self._until(_END).partition(b";")[0].decode("latin-1"), 16):
                content += self._exactly(size)
                _require(self._exactly(len(_END)) == _END and len(content) <= _BODY_LIMIT)
            while self._until(_END):
                pass
            return bytes(content)
        if length := headers.get("content-length"):
            return self._exactly(_size(length, 10))
        self.ended, rest = True, bytearray(self.buffer)
        while piece := self._origin.recv(_PIECE):
            rest += piece
            _require(len(rest) <= _BODY_LIMIT)
        self.buffer = b""
        return bytes(rest)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            _require(len(self.buffer) <= _HEAD_LIMIT)
            self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        _require(size <= _BODY_LIMIT)
        while len(self.buffer) < size:
            self._more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def _more(self) -> None:
        if not (piece := self._origin.recv(_PIECE)):
            raise ProtocolError("the server closed the connection before its answer was complete")
        self.buffer += piece


def _size(text: str, base: int) -> int:
    """Parse a size of digits only (RFC 9112, 6.2 and 7.1): int() also takes signs, underscores and 0x."""
    _require(_DIGITS[base].fullmatch(text.strip()) is not None)
    return int(text, base)


def _require(condition: bool) -> None:  # noqa: FBT001
    if not condition:
        raise ProtocolError("an answer that is malformed, or longer than any that S3 gives to such a request")
