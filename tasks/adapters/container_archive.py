"""Read a container's files from the tar stream that the engine sends."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Archive:
    """A file or folder of a container. A link names its target, as the container knows it."""

    link: str
    content: Iterator[bytes]

    def opened(self) -> tarfile.TarFile:
        """Its members in turn; each is to be read before the next."""
        return tarfile.open(fileobj=_Stream(self.content), mode="r|")


class _Stream(io.RawIOBase):
    """Chunks as a file that tarfile can read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Nothing is read yet."""
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What is left of the last chunk, or else of the next."""
        chunk = self._left or next(self._chunks, b"")
        size = min(len(buffer), len(chunk))
        buffer[:size], self._left = chunk[:size], chunk[size:]
        return size
