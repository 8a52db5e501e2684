"""Take in a file's bytes: hash, divide, search for secrets and copy them, all in one reading."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from tasks.acquisition.pouring import write
from tasks.custody.evidence.one_pass import pass_on
from tasks.custody.evidence.part_sizes import Digests, Parts, part_size
from tasks.custody.evidence.secrets_in_files import Search, Searching


@dataclass(frozen=True)
class FileContent:
    """What one reading of a file yields: its length, its digests and the secrets found in it."""

    size: int
    sha256: str
    parts: Parts | None
    search: Search


def read_once(
    blocks: Iterable[bytes], size: int, stored: str, searched: int | None, out: BinaryIO | None = None
) -> FileContent:
    """Take in the blocks of a file of `size` bytes, and copy them to `out` if given.

    The first `searched` bytes are searched, or all. Raises what `blocks` raises, and OSError if they cannot be written.
    """
    digests, searching = Digests(part_size(size)), Searching(searched)
    copy = [partial(write, out)] if out else []
    pass_on(blocks, (*digests.takers, searching.take, *copy))
    if out:
        out.truncate()
    return FileContent(digests.length, *digests.of(size), searching.finish(stored))
