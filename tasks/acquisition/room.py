"""Write each acquired file where there is room, whole or not at all.

See docs/adr/0012.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tasks.acquisition.collector import Target
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.room import ContentPlace, Free
from tasks.system.files.disk_reserve import with_reserve

BLOCK_UNIT: Final = 512
"""Bytes of a block as stat(2) counts them."""
_NEXT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENODEV, errno.ESTALE, errno.ENAMETOOLONG, errno.ENOENT}
)


def size_on_disk(status: os.stat_result) -> int:
    """Return the bytes that a copy of a file takes: of a sparse one without its holes."""
    return min(status.st_size, status.st_blocks * BLOCK_UNIT)


@dataclass(frozen=True)
class Room:
    """Two folders: the attempt's own on the evidence disk, and one on another disk if there is any."""

    folder: Path
    fallback: Path | None
    reserve: Path
    margin: int
    copies: bool

    @classmethod
    def of(cls, target: Target, folder: Path) -> "Room":
        """Make the room that the target describes."""
        fallback = Path(target.fallback) if target.fallback else None
        return cls(folder, fallback, Path(target.reserve), target.margin, target.copies)

    @property
    def free(self) -> Free:
        """Bytes that may still be filled at this moment, without the reserve and a margin for other programs."""
        fallback = _free(self.fallback) if self.fallback else None
        return Free(max(0, _free(self.folder) - self.margin), fallback, self.copies)

    def put(self, stored: str, places: Iterable[ContentPlace], write: Callable[[BinaryIO], object]) -> ContentPlace:
        """Write a file in the first place that takes all of it; Place.IN_PLACE if none does and that was allowed.

        Raises OSError ENOSPC if it was not allowed. A place may be full, gone, read-only, or unable to hold the size or
        name. A partly written file is removed.
        """
        for place in places:
            if place is ContentPlace.IN_PLACE:
                return place
            try:
                _write(self._base(place), stored, write)
            except OSError as error:
                if error.errno not in _NEXT:
                    raise
            else:
                return place
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), stored)

    def keep(self, stored: str, data: bytes) -> ContentPlace:
        """Write a small file that we made and that exists nowhere else: the reserve is released for it if needed."""
        copies = [ContentPlace.EVIDENCE] if self.fallback is None else [ContentPlace.EVIDENCE, ContentPlace.FALLBACK]
        return with_reserve(self.reserve, len(data), lambda: self.put(stored, copies, lambda out: out.write(data)))

    def link(self, first: StoredFile, stored: str) -> bool:
        """Give a written file a second name; False if the file system has no links."""
        base = Path(first.where) if first.where else self.folder
        (base / stored).parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(base / first.stored, base / stored)
            return True
        return False

    def path(self, stored: str, place: ContentPlace) -> Path:
        """Return where it was written."""
        return self._base(place) / stored

    def where(self, place: ContentPlace) -> str:
        """Return the place as StoredFile names it."""
        folders = {ContentPlace.EVIDENCE: "", ContentPlace.FALLBACK: str(self.fallback)}
        return folders.get(place, str(place))

    def _base(self, place: ContentPlace) -> Path:
        return self.fallback if place is ContentPlace.FALLBACK and self.fallback else self.folder


def _free(folder: Path) -> int:
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0  # a disk that is gone has no room
    return status.f_bavail * status.f_frsize


def move(source: Path, destination: Path) -> None:
    """Rename a file into a folder of ours, which is created if needed."""
    try:
        source.replace(destination)
    except FileNotFoundError:
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.replace(destination)


def _write(base: Path, stored: str, write: Callable[[BinaryIO], object]) -> None:
    """Write under a temporary name that begins with a dot, which no stored name does, then rename."""
    part, path = base / ".part", base / stored
    part.unlink(missing_ok=True)
    try:
        with part.open("xb") as out:
            write(out)
        move(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
