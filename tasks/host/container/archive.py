"""Read a container's files from the tar stream that the engine sends."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Archive:
    """A file or folder of a container. `link` is a link's target in the container."""

    link: str
    content: Iterator[bytes]

    def open_tar(self) -> tarfile.TarFile:
        """Open the tar stream; each member must be read before the next."""
        return tarfile.open(fileobj=_Stream(self.content), mode="r|")


class _Stream(io.RawIOBase):
    """Chunks as a file that tarfile can read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Take the chunks; nothing is read yet."""
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the current chunk, or from the next."""
        chunk = self._rest or next(self._chunks, b"")
        size = min(len(buffer), len(chunk))
        buffer[:size], self._rest = chunk[:size], chunk[size:]
        return size
