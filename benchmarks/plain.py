"""`python -m benchmarks.plain HOST PORT FOLDER`: all files of a folder over one TCP connection: what the line can do.

Prints the seconds from the connection to the receiver's word that it has everything.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final, Self

_PIECE: Final = 1 << 20


class Sink:
    """Takes connections on loopback, drops what comes, and closes each once it has everything."""

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._take, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _take(self) -> None:
        place = bytearray(_PIECE)
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    while connection.recv_into(place):
                        pass


def send(host: str, port: int, folder: Path) -> float:
    """Return the seconds that it took."""
    began = time.monotonic()
    with socket.create_connection((host, port)) as connection:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    left = os.fstat(file.fileno()).st_size
                    while left:
                        left -= os.sendfile(connection.fileno(), file.fileno(), None, left)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return time.monotonic() - began


if __name__ == "__main__":
    print(send(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
