"""Whether a file of the workload is whole, as far as its format shows. Nothing is unpickled."""

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol


class Readable(Protocol):
    """A file, compressed or not."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


_BLOCK: Final = 1 << 14
_LIMIT: Final = 1 << 35
_JSON_LIMIT: Final = 1 << 26
_PICKLE: Final = b"\x80"
_STOP: Final = b"."


def sound(path: Path) -> bool:
    """True for a whole file: a model that ends as a pickle ends, a JSON file that parses; other files are not judged.

    A kill in mid-write leaves a torn model under its final name, and latest/ must not get it.
    """
    if path.suffix in {".joblib", ".pkl", ".pickle"}:
        return _whole_pickle(path)
    if path.suffix == ".json":
        return _parses(path)
    return True


def _parses(path: Path) -> bool:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            return False
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _whole_pickle(path: Path) -> bool:
    """The content begins and ends as a pickle does; a compressed one also has its own end mark."""
    first = last = b""
    size = 0
    try:
        for block in _content(path):
            first, last = first or block[:1], block[-1:]
            size += len(block)
            if size > _LIMIT:
                return False
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return False
    return first == _PICKLE and last == _STOP


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if head[:1] == b"\x78":
            yield from _inflate(file)
        elif head.startswith(b"\x1f\x8b"):
            yield from _blocks(gzip.GzipFile(fileobj=file))
        elif head.startswith(b"BZh"):
            yield from _blocks(bz2.BZ2File(file))
        elif head.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
            yield from _blocks(lzma.LZMAFile(file))  # noqa: SIM115  it reads the file that is closed above
        else:
            yield head[:1]
            file.seek(-1 if head else 0, 2)
            yield from _blocks(file)


def _blocks(file: Readable) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    """Joblib's own default: a bare zlib stream. Small blocks bound what a hostile one can swell to."""
    stream = zlib.decompressobj()
    for block in _blocks(file):
        if data := stream.decompress(block):
            yield data
    if not stream.eof:
        raise EOFError("the stream has no end")
