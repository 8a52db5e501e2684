"""Counts the bytes that a client sends: a TCP relay before a server, which changes nothing."""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Final, Self

_PIECE: Final = 1 << 18


@dataclass
class Relay:
    """Listens on a port of its own; everything is passed on as it comes. Headers are counted like the rest."""

    port_behind: int
    sent: int = 0
    _lock: Lock = field(default_factory=Lock)

    @property
    def endpoint(self) -> str:
        """What a client is given in the server's stead."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

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
                Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.port_behind)) as server:
            back = Thread(target=_pass_on, args=(server, client, lambda _: None), daemon=True)
            back.start()
            _pass_on(client, server, self._count)
            back.join()

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size


def _pass_on(origin: socket.socket, target: socket.socket, count: Callable[[int], object]) -> None:
    """Until the one ends or the other takes no more; then the other hears of the end."""
    with contextlib.suppress(OSError):
        while piece := origin.recv(_PIECE):
            count(len(piece))
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
