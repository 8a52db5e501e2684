"""Keep evidence in a folder: an external disk, a mounted share, or for a drill without network."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import file_digest
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Final

from blocks.contract import absent, has_content, open_source, require_digest, require_key, require_removable
from blocks.port import CANARIES, PIECE, StoredObject, Tell, ignore_progress
from tasks.custody.errors import PermanentStoreError, TransientStoreError
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.promises import KEPT, Promises

_INCOMING: Final = ".incoming"
_HEAP_DEPTH: Final = 2
_TRANSIENT: Final = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
_FULL: Final = "Free space there, then run the evacuation again; finished objects are not repeated."
_DENIED: Final = "Let the worker's user write there, on a file system with hard links such as ext4, xfs or NFS."
_REMEDIES: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EOPNOTSUPP: _DENIED,
    errno.EXDEV: "Use a folder that is one file system, without mounts inside.",
    errno.EROFS: "Mount it writable.",
}


class DirectoryStore:
    """A store whose objects are files and whose keys are paths. Objects become visible only when complete.

    A full disk is a permanent error: nothing in a run frees space, so a retry only costs time.
    """

    def __init__(self, folder: Path) -> None:
        """Take an existing folder. It is not created: under a missing mount, that would fill the root disk."""
        self._folder = folder

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._folder)

    def unfit(self) -> str:
        """Return nothing: the block cannot ask for retention in a folder, where every writer may also delete."""
        return ""

    def promises(self) -> Promises:
        """Return full guarantees: a hard link never overwrites, and every digest is computed from the file."""
        return KEPT

    def probe(self, name: str, data: bytes) -> StoredObject | None:
        """Replace a canary; return it as it can be read again."""
        key = CANARIES + name
        self._put(self._path(key), key, data, digest_bytes(data), replace=True)
        return self.head(key)

    def create(
        self, key: str, source: Path | bytes, sha256: str, parts: Parts | None = None, tell: Tell = ignore_progress
    ) -> None:
        """Write a temporary file, compare its digest, flush it to disk, then hard-link it: atomic, never overwrites."""
        del parts, tell
        self._put(self._path(key), key, source, sha256, replace=False)

    def ensure_present(self, key: str, sha256: str, parts: Parts | None = None) -> bool:
        """Return whether the file has this content, by hashing it. Raises Conflict for other content."""
        return has_content(self.place, key, self.head(key), sha256, parts)

    def end_unfinished(self, prefix: str) -> Sequence[str]:
        """Remove temporary files of one incident. Ignores a wider prefix, where another host may be writing."""
        if prefix.count("/") < _HEAP_DEPTH:
            return ()
        with self._explaining(prefix):
            paths = sorted((self._folder / _INCOMING).glob(f"{_heap(prefix)}*"))
            for path in paths:
                path.unlink(missing_ok=True)
        return (prefix,) * len(paths)

    def copy(self, source: str, key: str, sha256: str, parts: Parts | None = None, *, replace: bool = False) -> None:
        """Copy the bytes. Not by a hard link, which would share later changes."""
        del parts
        self._put(self._path(key), key, self._existing(source), sha256, replace=replace)

    def remove(self, key: str, sha256: str, parts: Parts | None = None) -> None:
        """Remove the file. Empty folders stay."""
        if self.ensure_present(require_removable(key), sha256, parts):
            with self._explaining(key):
                self._path(key).unlink(missing_ok=True)
                _flush_folder(self._path(key).parent)

    def head(self, key: str) -> StoredObject | None:
        """Return the object with a digest from reading the whole file: a file system stores none."""
        path = self._path(key)
        with self._explaining(key):
            if not _is_object(path):
                return None
            with path.open("rb") as file:
                return StoredObject(key, os.fstat(file.fileno()).st_size, file_digest(file, "sha256").hexdigest())

    def read(self, key: str, limit: int | None = None) -> bytes:
        """Return the content of a small object, or its first `limit` bytes."""
        path = self._existing(key)
        with self._explaining(key), path.open("rb") as file:
            return file.read(limit)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the content in bounded memory."""
        path = self._existing(key)
        with self._explaining(key), path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all objects under a prefix, sorted by key, without digests."""
        with self._explaining(prefix):
            keys = sorted(key for key in self._keys(prefix.rpartition("/")[0]) if key.startswith(prefix))
            yield from (_describe_file(key, (self._folder / key).stat()) for key in keys)

    def list_folder(self, prefix: str) -> tuple[Sequence[StoredObject], Sequence[str]]:
        """Return the objects directly below a prefix, and the folders there, both sorted."""
        with self._explaining(prefix):
            folder = self._path(prefix.removesuffix("/")) if prefix else self._root()
            if not folder.is_dir():
                return [], []
            there = sorted(os.scandir(folder), key=lambda each: each.name)
            plain = (each for each in there if each.is_file(follow_symlinks=False))
            files = [_describe_file(prefix + each.name, each.stat()) for each in plain]
            folders = [f"{prefix}{each.name}/" for each in there if each.is_dir(follow_symlinks=False)]
        return files, [each for each in folders if each not in {f"{_INCOMING}/", CANARIES}]

    def _keys(self, below: str) -> Iterator[str]:
        start = self._path(below) if below else self._root()
        if not start.is_dir():
            return
        for folder, folders, names in os.walk(start, onerror=_reraise):
            if Path(folder) == self._folder:
                folders[:] = [name for name in folders if name not in {_INCOMING, CANARIES[:-1]}]
            paths = (Path(folder, name) for name in names)
            yield from (path.relative_to(self._folder).as_posix() for path in paths if _is_object(path))

    def _root(self) -> Path:
        if not self._folder.is_dir():
            cure = "Create it, or mount what belongs there."
            raise PermanentStoreError(f"a folder {self.place}", "none", "Nothing was stored.", cure)
        return self._folder

    def _path(self, key: str) -> Path:
        if require_key(key).split("/", 1)[0] == _INCOMING:
            raise PermanentStoreError("a key", repr(key), "Nothing was stored.", "That name is the store's own.")
        return self._root() / key

    def _existing(self, key: str) -> Path:
        if _is_object(path := self._path(key)):
            return path
        raise absent(self.place, key)

    def _put(self, path: Path, key: str, source: Path | bytes, sha256: str, *, replace: bool) -> None:
        with self._explaining(key):
            if not replace and self.ensure_present(key, sha256):
                return
            incoming = self._folder / _INCOMING
            incoming.mkdir(mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=incoming, prefix=_heap(key))
            try:
                with os.fdopen(descriptor, "wb") as file, open_source(source) as origin:
                    digest = sha256_of()
                    while chunk := origin.read(PIECE):
                        digest.update(chunk)
                        file.write(chunk)
                    require_digest(key, digest.hexdigest(), sha256)
                    file.flush()
                    os.fsync(file.fileno())
                missing = [each for each in (path.parent, *path.parent.parents) if not each.is_dir()]
                for folder in reversed(missing):  # each new name is flushed to disk
                    folder.mkdir(mode=0o700, exist_ok=True)
                    _flush_folder(folder.parent)
                self._publish(Path(name), path, key, sha256, replace=replace)
            finally:
                Path(name).unlink(missing_ok=True)

    def _publish(self, written: Path, path: Path, key: str, sha256: str, *, replace: bool) -> None:
        if replace:
            written.replace(path)
        else:
            try:
                path.hardlink_to(written)
            except FileExistsError:
                self.ensure_present(key, sha256)
        _flush_folder(path.parent)

    @contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = TransientStoreError if error.errno in _TRANSIENT else PermanentStoreError
            remedy = _REMEDIES.get(error.errno or 0, "Check the disk, and the kernel log for its errors.")
            expected = f"{key} to be written or read in {self.place}"
            raise kind(expected, error.strerror or str(error), "It is not stored.", remedy) from error


def _describe_file(key: str, found: os.stat_result) -> StoredObject:
    return StoredObject(key, found.st_size, None, modified=datetime.fromtimestamp(found.st_mtime, UTC))


def _heap(key: str) -> str:
    """Return the file name prefix of an incident's temporary files."""
    return f"{sha256_of('/'.join(key.split('/')[:_HEAP_DEPTH]).encode()).hexdigest()[:16]}-"


def _is_object(path: Path) -> bool:
    """Return whether the path is a regular file. Links are no objects: they may lead out of the store."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reraise(error: OSError) -> None:
    raise error
