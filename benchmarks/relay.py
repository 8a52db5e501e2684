"""`python -m benchmarks.relay PORT DELAY`: a TCP relay before a server, which counts and, if asked, delays.

What comes is passed on unchanged DELAY seconds later, each way; the first bytes of a connection wait for two more
delays, as its handshake would take. For each line on its standard input it prints how many bytes clients have sent,
headers included; it ends with its input.
"""

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

_HERE: Final = "127.0.0.1"
_UNDER_WAY: Final = 4 << 20
"""Bytes of one direction of a connection that are held back at most."""
_LISTEN: Final = 1024


class Relay:
    """The relay as a process, which ends with this object or with us."""

    def __init__(self, port_behind: int, delay: float = 0.0, host: str = _HERE, before: Sequence[str] = ()) -> None:
        """Pass on to a port on loopback; `host` is how clients name us, `before` what stands before the command."""
        self._host, self._command = host, [*before, sys.executable, "-m", __name__, str(port_behind), str(delay)]

    @property
    def endpoint(self) -> str:
        """URL that a client is given in place of the server's."""
        return f"http://{self._host}:{self.port}"

    @property
    def sent(self) -> int:
        """Bytes that clients have sent so far."""
        self._process.stdin.write("?\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return self._answer()

    def _answer(self) -> int:
        return int(self._process.stdout.readline())  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.port = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class _End(asyncio.Protocol):
    """One end of a connection. What arrives here is written to the other end, in order, after the delay."""

    transport: asyncio.Transport
    ended = False

    def __init__(self, delay: float, other: "_End | None" = None) -> None:
        self.delay, self.other = delay, other
        self._held, self._held_bytes = deque[bytes](), 0
        self._loop = asyncio.get_running_loop()
        self._open_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  asyncio's own promise for streams
        self.transport = transport
        transport.set_write_buffer_limits(high=_UNDER_WAY)

    def data_received(self, data: bytes) -> None:
        self._hold(data)
        self._held_bytes += len(data)
        if self._held_bytes > _UNDER_WAY:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._hold(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._hold(b"")
        del exc

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        if self.delay:
            self._loop.call_at(max(self._loop.time(), self._open_at) + self.delay, self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        data = self._held.popleft()
        self._held_bytes -= len(data)
        if not self.other:
            return
        there = self.other.transport
        if data:
            there.write(data)
        elif self.transport.is_closing() or self.other.ended:
            self.transport.close()
            there.close()
        else:
            self.ended = True
            there.write_eof()
        room = max(self._held_bytes, there.get_write_buffer_size()) <= _UNDER_WAY
        if room and not self.ended and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _Client(_End):
    """The end that a client has connected to."""

    total = 0

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(delay)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_at = self._loop.time() + 2 * self.delay
        self.transport.pause_reading()
        self._task = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, end = await self._loop.create_connection(lambda: _End(self.delay, self), _HERE, self._port)
        except OSError:
            self.transport.abort()
            return
        self.other = end
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        _Client.total += len(data)
        super().data_received(data)


async def _serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Client(port, delay), "0.0.0.0", 0, backlog=_LISTEN)  # noqa: S104
    print(server.sockets[0].getsockname()[1], flush=True)
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while await questions.readline():
        print(_Client.total, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
