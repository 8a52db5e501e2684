"""Divide a large file into parts for a multipart upload: threshold, size, digests (runbook §5).

A store computes the SHA-256 of an object uploaded in one request. For parts it reports the SHA-256 of their SHA-256s
("composite"), which proves the content only to a reader that knows the parts. They are in the manifest, and are
computed in the pass that computes the file's digest.

See docs/adr/0018.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tasks.custody.evidence.one_pass import BLOCK, pass_on

ABOVE: Final = 64 << 20
"""Bytes above which a file is divided. Below, a broken transfer costs little, and one digest is simpler proof."""
PART: Final = 16 << 20
"""Bytes of a part, which a lost connection costs. S3 requires 5 MiB, except for the last part."""
MOST: Final = 10_000
"""S3's limit of parts of one object: files above 156 GiB have larger parts."""
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Part:
    """One part: its number from 1, its offset, its length, and its SHA-256 in hexadecimal."""

    number: int
    start: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Parts:
    """The SHA-256 of each part in hexadecimal; `size` is the bytes of each part but the last, `total` of the file."""

    size: int
    total: int
    digests: tuple[str, ...]

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts in order."""
        for index, sha256 in enumerate(self.digests):
            start = index * self.size
            yield Part(index + 1, start, min(self.size, self.total - start), sha256)

    @property
    def composite(self) -> str:
        """The store's digest of the whole: the SHA-256 of the parts' SHA-256s, a dash, and their number."""
        whole = hashlib.sha256(b"".join(map(bytes.fromhex, self.digests)))
        return f"{whole.hexdigest()}-{len(self.digests)}"

    def contradicted_by(self, composite: str) -> bool:
        """Return whether a composite digest of as many parts differs."""
        return contradicts(self.composite, composite)

    @property
    def whole(self) -> bool:
        """Whether these are all parts of such a file: the right number of them."""
        return self.size > 0 and len(self.digests) == -(-self.total // self.size) > 0


def contradicts(expected: str, composite: str) -> bool:
    """Return whether two composite digests of equally many parts differ. Other numbers of parts decide nothing."""
    same_count = expected.partition("-")[2] == composite.partition("-")[2] != ""
    return same_count and expected != composite


def part_size(total: int) -> int:
    """Return the bytes of a part of a file of `total` bytes, in whole MiB; 0 if it is not divided."""
    return max(PART, -(-total // MOST // _MIB) * _MIB) if total > ABOVE else 0


class Digests:
    """The length and SHA-256 of a stream, and the SHA-256 of its parts of `size` bytes; of none if `size` is 0.

    Each of `takers` is given the blocks of the stream in order, and may have a thread of its own.
    """

    def __init__(self, size: int) -> None:
        """Begin with nothing."""
        self.length = 0
        self._whole, self._part, self._ended = hashlib.sha256(), hashlib.sha256(), list[str]()
        self._size, self._seen = size, 0
        self.takers = (self._hash, self._divide) if size else (self._hash,)

    @property
    def sha256(self) -> str:
        """Digest of the whole in hexadecimal."""
        return self._whole.hexdigest()

    @property
    def parts(self) -> Parts:
        """The parts so far; the last one may be shorter."""
        last = [self._part.hexdigest()] if self._seen % self._size else []
        return Parts(self._size, self._seen, (*self._ended, *last))

    def of(self, total: int) -> tuple[str, Parts | None]:
        """Return the digest, and the parts if there are any and all of the `total` bytes came."""
        parts = self.parts if self._size else None
        return self.sha256, parts if parts and parts.total == total else None

    def _hash(self, block: bytes) -> None:
        self._whole.update(block)
        self.length += len(block)

    def _divide(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            piece, rest = rest[: (room := self._size - self._seen % self._size)], rest[room:]
            self._part.update(piece)
            self._seen += len(piece)
            if len(piece) == room:
                self._ended.append(self._part.hexdigest())
                self._part = hashlib.sha256()


def hash_file(path: Path, total: int) -> tuple[str, Parts | None]:
    """Return the digest of a file's first `total` bytes, and its parts if it is large and complete."""
    return _read(path, part_size(total), total).of(total)


def divide(path: Path, size: int, total: int) -> tuple[str, Parts]:
    """Return the digests of a file's first `total` bytes and of their parts. One that is shorter ends where it does."""
    digests = _read(path, size, total)
    return digests.sha256, digests.parts


def _read(path: Path, size: int, total: int) -> Digests:
    digests = Digests(size)
    with path.open("rb", buffering=0) as file:
        pass_on(_blocks(file, total), digests.takers)
    return digests


def _blocks(file: IO[bytes], remaining: int) -> Iterator[bytes]:
    while remaining and (block := file.read(min(BLOCK, remaining))):
        yield block
        remaining -= len(block)
