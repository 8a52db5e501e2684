"""Divide a large file into parts for a multipart upload: threshold, size, digests (runbook §5).

A store digests in one piece what comes in one request. Of parts it gives the SHA-256 of their SHA-256s, "composite":
that proves the same bytes to whoever knows the parts. They are sealed in the manifest, taken in the very pass that
gave the file's own digest.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ABOVE: Final = 64 << 20
"""Bytes above which a file is divided. Below, a broken transfer costs little, and one digest is the plainer proof."""
PART: Final = 16 << 20
"""Bytes of a part: what a lost connection costs; S3 takes none under 5 MiB but the last."""
MOST: Final = 10_000
"""Parts of one object, by S3's own limit: of files above 156 GiB they are larger."""
_MIB: Final = 1 << 20
_BLOCK: Final = 4 << 20


@dataclass(frozen=True)
class Part:
    """One part: its number from 1, where it starts, its length and its SHA-256 in hex."""

    number: int
    start: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Parts:
    """The SHA-256 of each part in hex, and the bytes of each but the last, of a file of `total` bytes."""

    size: int
    total: int
    digests: tuple[str, ...]

    def __iter__(self) -> Iterator[Part]:
        """Give each in its order."""
        for index, sha256 in enumerate(self.digests):
            start = index * self.size
            yield Part(index + 1, start, min(self.size, self.total - start), sha256)

    @property
    def composite(self) -> str:
        """What a store says of the whole: the SHA-256 of the parts' SHA-256s, a dash, and how many they are."""
        whole = hashlib.sha256(b"".join(map(bytes.fromhex, self.digests)))
        return f"{whole.hexdigest()}-{len(self.digests)}"

    def contradicted_by(self, composite: str) -> bool:
        """Whether a store that took as many parts says another digest of them."""
        return contradicted(self.composite, composite)

    @property
    def whole(self) -> bool:
        """Whether these are all parts of such a file: as many as it takes, and the last not empty."""
        return self.size > 0 and len(self.digests) == -(-self.total // self.size) > 0


def contradicted(expected: str, composite: str) -> bool:
    """Whether a store's digest of parts is another one of as many. One of fewer or more can be of the same bytes."""
    same_count = expected.partition("-")[2] == composite.partition("-")[2] != ""
    return same_count and expected != composite


def part_size(total: int) -> int:
    """Bytes of a part of so large a file, in whole MiB; 0 if it is not divided."""
    return max(PART, -(-total // MOST // _MIB) * _MIB) if total > ABOVE else 0


def hashed(path: Path, total: int) -> tuple[str, Parts | None]:
    """The digest of a file's first `total` bytes in hex; and of its parts, if it is large and has all of them."""
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
    """The digest of a file's first `total` bytes and of their parts: each block is read once and given to both.

    Of one that has become shorter, what is there.
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
