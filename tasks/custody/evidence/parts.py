"""Divide a large file into parts for a multipart upload: threshold, size, digests (runbook §5).

A store computes the SHA-256 of an object uploaded in one request. For parts it reports the SHA-256 of their SHA-256s
("composite"), which proves the content only to a reader that knows the parts. They are in the manifest, and are
computed in the pass that computes the file's digest.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ABOVE: Final = 64 << 20
"""Bytes above which a file is divided. Below, a broken transfer costs little, and one digest is simpler proof."""
PART: Final = 16 << 20
"""Bytes of a part, which a lost connection costs. S3 requires 5 MiB, except for the last part."""
MOST: Final = 10_000
"""S3's limit of parts of one object: files above 156 GiB have larger parts."""
_MIB: Final = 1 << 20
_BLOCK: Final = 4 << 20


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
        return contradicted(self.composite, composite)

    @property
    def whole(self) -> bool:
        """Whether these are all parts of such a file: the right number of them."""
        return self.size > 0 and len(self.digests) == -(-self.total // self.size) > 0


def contradicted(expected: str, composite: str) -> bool:
    """Return whether two composite digests of equally many parts differ. Other numbers of parts decide nothing."""
    same_count = expected.partition("-")[2] == composite.partition("-")[2] != ""
    return same_count and expected != composite


def part_size(total: int) -> int:
    """Return the bytes of a part of a file of `total` bytes, in whole MiB; 0 if it is not divided."""
    return max(PART, -(-total // MOST // _MIB) * _MIB) if total > ABOVE else 0


def hashed(path: Path, total: int) -> tuple[str, Parts | None]:
    """Return the digest of a file's first `total` bytes, and its parts if it is large and complete."""
    if size := part_size(total):
        sha256, parts = divide(path, size, total)
        return sha256, parts if parts.total == total else None
    whole, left = hashlib.sha256(), total
    with path.open("rb", buffering=0) as file:
        while block := file.read(min(_BLOCK, left)):
            whole.update(block)
            left -= len(block)
    return whole.hexdigest(), None


def divide(path: Path, size: int, total: int) -> tuple[str, Parts]:
    """Return the digests of a file's first `total` bytes and of their parts, reading each block once.

    A file that has become shorter is hashed up to its end.
    """
    whole, digests, left = hashlib.sha256(), list[str](), total
    with path.open("rb") as file, ThreadPoolExecutor(1) as beside:
        while left:
            part, rest = hashlib.sha256(), min(size, left)
            left -= rest
            while rest and (block := file.read(min(_BLOCK, rest))):
                done = beside.submit(whole.update, block)
                part.update(block)
                done.result()
                rest -= len(block)
            digests.append(part.hexdigest())
            total, left = (total - rest - left, 0) if rest else (total, left)
    return whole.hexdigest(), Parts(size, total, tuple(digests))
