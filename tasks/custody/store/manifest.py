"""Build and check the manifest: every evidence file with its digest, written once, never changed (runbook §4).

Has the fields of the runbook's own `make manifest` (generated_utc, items: path, bytes, sha256, mtime), so that its
readers still work.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import MANIFEST
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.incident.incident import Origin
from tasks.custody.store.rows import read_rows, spell_rows
from tasks.custody.visible import join_some


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of an open file in pieces."""
    return iter(lambda: file.read(_LARGE), b"")


class Hashed:
    """Pieces that are hashed as they are read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """Read nothing yet."""
        self._pieces, self._whole = pieces, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        """Yield each, once."""
        for piece in self._pieces:
            self._whole.update(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """The digest of what was read."""
        return self._whole.hexdigest()


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of(files: Iterable[StoredFile]) -> str:
    """Return one SHA-256 for many files: that of their lines in SHA256SUMS, so that anybody can recompute it."""
    return digest_bytes(_sums({file.stored: file.sha256 for file in files}))


def _sums(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{sha}  {name}\n" for name, sha in sorted(digests.items())).encode()


def canonical(value: Any) -> bytes:
    """Return canonical JSON: equal values give equal bytes."""
    return ("".join(_CANONICAL.iterencode(value)) + "\n").encode()


def is_canonical(value: Any, data: bytes) -> bool:
    """Return whether the bytes are the value's canonical JSON. Stops at the first difference, to bound the work."""
    at = 0
    for piece in chain(_CANONICAL.iterencode(value), "\n"):
        if not data.startswith(text := piece.encode(), at):
            return False
        at += len(text)
    return at == len(data)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False, default=_plain)

_AT_ONCE: Final = 4


_LARGE: Final = 1 << 20
_SHOWN: Final = 5
_SAID: Final = ("note", "where", "access")
_ORIGIN: Final = ("host", "workload", "place")


@dataclass(frozen=True)
class Manifest:
    """The files of one evidence folder. `generated_utc` is ISO 8601 with Z, `folders` are those of the snapshot.

    `origin` says whose they are.
    """

    incident: str
    volume: int
    generated_utc: str
    files: tuple[StoredFile, ...]
    folders: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)

    def to_bytes(self) -> bytes:
        """Return canonical JSON with items sorted by path."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield canonical JSON in pieces: for 300,000 files it has a hundred megabytes."""
        return spell_rows(self.frame, "items", map(item_of, sorted(self.files, key=lambda file: file.stored)))

    @property
    def frame(self) -> dict[str, Any]:
        """The fields other than the items."""
        whole = {"folders": list(self.folders)} if self.folders else {}
        written = {"incident": self.incident, "volume": self.volume, "generated_utc": self.generated_utc}
        return written | asdict(self.origin) | whole

    @cached_property
    def digest_and_size(self) -> tuple[str, int]:
        """SHA-256 and length of its canonical JSON."""
        whole, size = hashlib.sha256(), 0
        for piece in self.pieces():
            whole.update(piece)
            size += len(piece)
        return whole.hexdigest(), size

    @classmethod
    def read(cls, pieces: Iterable[bytes]) -> "Manifest":
        """Parse what `pieces` yielded; writing again gives the same bytes."""
        raw, files = read_rows(pieces, "items", lambda row: file_of(json.loads(row)))
        return cls.of(raw, files)

    @classmethod
    def of(cls, raw: Mapping[str, Any], files: Iterable[StoredFile]) -> "Manifest":
        """Return the manifest of these fields and files. Raises KeyError for a field that is missing."""
        folders, origin = tuple(map(str, raw.get("folders", ()))), Origin(*(raw[name] for name in _ORIGIN))
        return cls(raw["incident"], raw["volume"], raw["generated_utc"], tuple(files), folders, origin)

    @classmethod
    def at(cls, path: Path) -> "Manifest":
        """Parse the manifest at a path."""
        with path.open("rb") as file:
            return cls.read(pieces_of(file))

    def sums(self) -> bytes:
        """Return the digests in the format of `sha256sum -c`, including the manifest's own."""
        return _sums({file.stored: file.sha256 for file in self.files} | {MANIFEST: self.digest_and_size[0]})

    @property
    def size(self) -> int:
        """Total bytes of all items."""
        return sum(file.size for file in self.files)


def differences(files: Iterable[StoredFile], path_of: Callable[[StoredFile], Path]) -> list[str]:
    """Compare files on disk with those of a manifest; returns one line for each missing or changed file.

    Large files are hashed in parallel; small ones are faster in sequence.
    """
    every = list(files)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        large = {file.stored: pool.submit(_difference, file, path_of) for file in every if file.size > _LARGE}
        found = (large[file.stored].result() if file.stored in large else _difference(file, path_of) for file in every)
        return [line for line in found if line]


def _difference(file: StoredFile, path_of: Callable[[StoredFile], Path]) -> str:
    path = path_of(file)
    if not path.is_file() or path.is_symlink():
        return f"{file.stored}: gone"
    sha = digest(path)
    return "" if sha == file.sha256 else f"{file.stored}: sha256 {sha}, sealed as {file.sha256}"


def require_intact(files: Iterable[StoredFile], folder: Path, path_of: Callable[[StoredFile], Path]) -> None:
    """Raise Tampered unless all files, in the folder and elsewhere, have their sealed content."""
    if found := differences(files, path_of):
        state = "What is already in the store stays there; nothing changed is sent."
        cure = "Keep the folder as it is for the investigation and compare it with the store."
        raise Tampered(f"the sealed files in {folder}", join_some(found, _SHOWN, "; "), state, cure)


def item_of(file: StoredFile) -> dict[str, Any]:
    """Return the manifest's item of a file."""
    item: dict[str, Any] = {
        "path": file.stored,
        "bytes": file.size,
        "sha256": file.sha256,
        "mtime": None if file.mtime_ns is None else file.mtime_ns / 10**9,
        "mtime_ns": file.mtime_ns,
        "source": file.source,
    }
    item |= {name: value for name in _SAID if (value := getattr(file, name))}
    item |= {"part_bytes": file.parts.size, "parts": list(file.parts.digests)} if file.parts else {}
    return item | ({"in_place": True} if file.in_place else {})


def file_of(item: dict[str, Any]) -> StoredFile:
    """Return the file of a manifest's item. Texts that many files share are stored once."""
    texts = {name: item.get(name, "") for name in _SAID}
    if isinstance(texts["access"], str):
        texts["access"] = sys.intern(texts["access"])
    source = item["path"] if item["source"] == item["path"] else item["source"]
    parts = Parts(item["part_bytes"], item["bytes"], tuple(item["parts"])) if "parts" in item else None
    return StoredFile(item["path"], source, item["bytes"], item["sha256"], item["mtime_ns"], **texts, parts=parts)
