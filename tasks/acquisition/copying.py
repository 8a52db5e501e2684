"""Copy one file of the workload as it is, or hash it where it lies, in one reading; the result is a file or a loss."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from tasks.acquisition.collector import Taken
from tasks.acquisition.content import FileContent, read_once
from tasks.acquisition.matching import INSTEAD, UNREAD, build_loss, is_hidden, read_link
from tasks.acquisition.pouring import Endless, blocks, clone, extents
from tasks.acquisition.room import BLOCK_UNIT, Room, size_on_disk
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import placed_name, quote
from tasks.custody.evidence.room import ContentPlace, places
from tasks.custody.evidence.secrets_in_files import LIMIT
from tasks.system.files.open_beneath import open_below, real_name

_BESIDES: Final = 1 << 16
_HOLES: Final = 16 << 30
_DEEPEST: Final = 64


@dataclass
class Copying:
    """One attempt at many files below a root, of `limit` bytes at most.

    A file with two names is copied once: `_taken` holds the inodes. `owners` are users of the workload besides the
    owner of its root. `searched` bytes of each file are searched for secrets, or all. `patterns` are all that the block
    has.
    """

    root: bytes
    room: Room
    limit: int
    owners: frozenset[int] = frozenset()
    searched: int | None = LIMIT
    patterns: Sequence[str] = ()
    _taken: dict[tuple[int, ...], Taken] = field(default_factory=dict)
    _clones: bool = True

    def take(self, name: bytes) -> Taken | Loss | None:
        """Take one file. An error, such as a bad block of the disk, costs this file and no other.

        None for a folder of the workload, which is no file.
        """
        if name.count(b"/") > _DEEPEST:
            return Loss(quote(name), Outcome.FAILED, f"it lies more than {_DEEPEST} folders deep")
        try:
            return self._take(name)
        except FileNotFoundError:
            to = read_link(self.root, name)
            return Loss(quote(name), Outcome.FAILED, f"a link to nothing, {quote(to)}" if to else "it vanished")
        except OSError as error:
            return build_loss(name, error)
        except Endless:
            reason = f"it has no size and yields more than the {self.limit} bytes that may still be stored"
            return Loss(quote(name), Outcome.TRUNCATED, reason)

    def _take(self, name: bytes) -> Taken | Loss | None:
        real = real_name(self.root, name)
        if real is None:
            to = read_link(self.root, name) or b"wherever a folder on its way does"
            reason = f"a link that leads out of the workload, to {quote(to)}: {INSTEAD}"
            return Loss(quote(name), Outcome.DENIED, reason)
        if is_hidden(name, real, self.patterns):
            return Loss(quote(name), Outcome.WITHHELD, f"left out, a link to {quote(real)}, which is {UNREAD}")
        path = os.path.join(self.root, name)
        if os.path.isdir(path):  # its files count if a pattern names them
            reason = f"a link to the folder {quote(real)}, which is no file"
            return Loss(quote(name), Outcome.MISSING, reason) if os.path.islink(path) else None
        descriptor = open_below(self.root, real)
        try:
            return self._take_open(descriptor, name, real)
        finally:
            os.close(descriptor)

    def _take_open(self, descriptor: int, name: bytes, real: bytes) -> Taken | Loss:
        before = os.fstat(descriptor)
        if self._foreign(before, real):
            reason = f"a hard link to a private file of user {before.st_uid}, who is no user of the workload"
            return Loss(quote(name), Outcome.DENIED, reason)
        note = "" if real == os.path.normpath(name) else f"a link to {quote(real)}"
        if reason := self._too_much(descriptor, before):
            return Loss(quote(name), Outcome.TRUNCATED, reason)
        if twin := self._again(before, name, note):
            return twin
        stored = placed_name(name)
        place, content = self._copy(descriptor, before, stored)
        changed = changes(before, os.fstat(descriptor), _there(self.root, real))
        file = StoredFile(
            stored,
            quote(name),
            content.size,
            content.sha256,
            before.st_mtime_ns,
            note="; ".join(filter(None, (note, *changed))),
            where=self.room.where(place),
            access=f"{stat.filemode(before.st_mode)} {before.st_uid}:{before.st_gid}",
            parts=content.parts,
        )
        result = Taken(file, content.search)
        if not changed:
            self._taken[_same(before)] = result
        self.limit -= content.size
        return result

    def _foreign(self, status: os.stat_result, real: bytes) -> bool:
        """As root: return whether the file may be another user's that was linked here (fs.protected_hardlinks is 0)."""
        if os.geteuid() or status.st_nlink == 1 or status.st_mode & stat.S_IROTH:
            return False
        places = self.root, os.path.dirname(os.path.join(os.path.realpath(self.root), real))
        return status.st_uid not in self.owners | {os.stat(place).st_uid for place in places}

    def _too_much(self, descriptor: int, before: os.stat_result) -> str:
        """Return why a file is too large to take; smaller ones after it are still tried."""
        if before.st_size > self.limit:
            return f"{before.st_size} bytes where {self.limit} may still be stored"
        if before.st_size - before.st_blocks * BLOCK_UNIT > _HOLES:
            data = sum(end - start for start, end in extents(descriptor, before.st_size))
            if before.st_size - data > _HOLES:
                return f"a sparse file, {data} bytes of data in {before.st_size}: so many holes are not read"
        return ""

    def _copy(self, descriptor: int, before: os.stat_result, stored: str) -> tuple[ContentPlace, FileContent]:
        """Return where the copy is and what was read for it. In place the source alone is read."""
        if self._share_blocks(descriptor, before, stored):
            with self.room.path(stored, ContentPlace.EVIDENCE).open("rb") as copy:
                return ContentPlace.EVIDENCE, self._read(copy.fileno(), before.st_size, stored)
        read = list[FileContent]()

        def write(out: BinaryIO) -> None:
            read[:] = [self._read(descriptor, before.st_size, stored, out)]

        place = self.room.put(stored, places(size_on_disk(before) + _BESIDES, self.room.free), write)
        in_place = place is ContentPlace.IN_PLACE
        return place, self._read(descriptor, before.st_size, stored) if in_place else read[0]

    def _read(self, source: int, size: int, stored: str, out: BinaryIO | None = None) -> FileContent:
        return read_once(blocks(source, size, self.limit), size, stored, self.searched, out)

    def _share_blocks(self, descriptor: int, before: os.stat_result, stored: str) -> bool:
        """Make a copy that shares its source's blocks and takes no room; never again once that was refused."""
        if not (self._clones and self.room.copies and before.st_size):
            return False
        self._clones = False
        with suppress(OSError):
            self.room.put(stored, [ContentPlace.EVIDENCE], lambda out: clone(descriptor, out.fileno(), before.st_size))
            self._clones = True
        return self._clones

    def _again(self, before: os.stat_result, name: bytes, note: str) -> Taken | None:
        """Give a copy of this attempt a second name, if the source is unchanged since; else None."""
        first, stored = self._taken.get(_same(before)), placed_name(name)
        if first is None or not (first.file.in_place or self.room.link(first.file, stored)):
            return None
        shared = f"a hard link, the same file as {first.file.source}" if before.st_nlink > 1 else ""
        file = replace(first.file, stored=stored, source=quote(name), note=note or shared)
        return Taken(file, replace(first.search, stored=stored))


def changes(before: os.stat_result, after: os.stat_result, there: int | None) -> tuple[str, ...]:
    """Return what happened to a file while it was read: compares the open file twice, and the inode at its name."""
    reasons = []
    if after.st_size > before.st_size > 0:
        reasons.append(f"it grew while it was read: its first {before.st_size} bytes are here")
    elif after.st_size < before.st_size:
        reasons.append("it was truncated while it was read")
    elif _same(before) != _same(after):
        reasons.append("it changed while it was read")
    if there is None:
        reasons.append("it was removed meanwhile")
    elif there != before.st_ino:
        reasons.append("another file has its name by now")
    return tuple(reasons)


def _same(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _there(root: bytes, real: bytes) -> int | None:
    with suppress(OSError):
        return os.lstat(os.path.join(root, real)).st_ino
    return None
