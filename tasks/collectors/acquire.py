"""Acquisition: runs one collector's sources into a folder, and reports each file or loss as soon as it is known.

Runs in a process of its own, so that a hang, a crash or a hostile file costs one collector and no more.
"""

import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tasks.collectors.collector import (
    Collector,
    Command,
    Files,
    Gathered,
    Incomplete,
    Made,
    NothingThere,
    Source,
    Target,
    Unanswered,
)
from tasks.collectors.command import run
from tasks.custody.evidence import Loss, Outcome, StoredFile
from tasks.custody.keys import placed_name, quote
from tasks.custody.manifest import digest

_CHUNK = 1 << 30
_BLOCK = 1 << 20
_DEEPEST = 64


def acquire(collector: Collector, target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    """Run every source; one that fails leaves a Loss and the others still run."""
    yield from take(collector.sources, target, folder)


def take(sources: Iterable[Source], target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    """One source after the other; each may store what the others left."""
    room = target.limit
    for source in sources:
        for item in _tried(source, replace(target, limit=room), folder):
            room -= item.size if isinstance(item, StoredFile) else 0
            yield item


def _tried(source: Source, target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    name = _name(source)
    try:
        yield from _from_source(source, target, folder)
    except NothingThere as reason:
        yield Loss(name, Outcome.MISSING, str(reason))
    except Incomplete as part:
        yield from _store(folder, name, part.data, target.limit)
        yield Loss(name, part.outcome, str(part))
    except Unanswered as reason:
        yield Loss(name, reason.outcome, str(reason))
    except PermissionError as error:
        yield Loss(name, Outcome.DENIED, str(error))
    except Exception as error:  # noqa: BLE001  a collector may fail in any way; none may pass in silence
        yield Loss(name, Outcome.FAILED, f"{type(error).__name__}: {error}")


def _name(source: Source) -> str:
    return source.field if isinstance(source, Files) else source.stored


def _from_source(source: Source, target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    match source:
        case Made():
            yield from _store(folder, source.stored, source.make(target), target.limit)
        case Command():
            yield from _store(folder, source.stored, run(source, target), target.limit)
        case Files():
            yield from _copy_all(target, source, folder)
        case Gathered():
            yield from source.gather(target, folder)


def _store(folder: Path, stored: str, data: bytes, limit: int) -> Iterator[StoredFile | Loss]:
    """Keep what we made; of too much its beginning."""
    kept = data[:limit]
    if kept or not data:
        path = folder / stored
        path.write_bytes(kept)
        yield StoredFile(stored, "", len(kept), digest(path))
    if len(kept) < len(data):
        yield Loss(stored, Outcome.TRUNCATED, f"the first {limit} of {len(data)} bytes: more may not be stored")


def _copy_all(target: Target, source: Files, folder: Path) -> Iterator[StoredFile | Loss]:
    root = os.fsencode(target.root)
    patterns = source.patterns or target.globs[source.field]
    found = dict.fromkeys(item for pattern in patterns for item in _matches(root, os.fsencode(pattern)))
    losses = [item for item in found if isinstance(item, Loss)]
    yield from losses
    nothing = not losses
    room = target.limit
    for name in sorted(item for item in found if isinstance(item, bytes)):
        if item := _too_large(root, name, room) or _try_to_copy(root, name, folder):
            nothing = False
            room -= item.size if isinstance(item, StoredFile) else 0
            yield item
    if nothing and source.field not in target.elsewhere:
        raise NothingThere(f"no file matches {', '.join(patterns)}")


def _too_large(root: bytes, name: bytes, room: int) -> Loss | None:
    """A file that no longer fits is left where it is, and smaller ones after it still have their chance."""
    with suppress(OSError):
        about = os.stat(os.path.join(root, name))
        if stat.S_ISREG(about.st_mode) and about.st_size > room:
            return Loss(quote(name), Outcome.TRUNCATED, f"{about.st_size} bytes where {room} may still be stored")
    return None


def _matches(root: bytes, pattern: bytes) -> Iterator[bytes | Loss]:
    """Names that a pattern matches, as glob knows it, but a folder that cannot be read is a Loss and not a silent gap.

    `**` goes into real folders only: links that lead into themselves would make it an endless walk.
    """
    places = [(b"", [part for part in pattern.split(b"/") if part not in {b"", b"."}])]
    while places:
        at, (first, *rest) = places.pop()
        if first == b"**" and rest:
            places.append((at, rest))
        try:
            names = _inside(os.path.join(root, at), first)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield _loss(at, error)
            continue
        for name in (os.path.join(at, name) for name in names):
            if first == b"**" and _is_real_folder(os.path.join(root, name)):
                places.append((name, [first, *rest]))
            elif not rest:
                yield name
            elif first != b"**":
                places.append((name, rest))


def _inside(folder: bytes, pattern: bytes) -> list[bytes]:
    """Names in a folder that fit one part of a pattern; hidden ones only if it begins with a dot."""
    if not glob.has_magic(pattern):
        os.lstat(os.path.join(folder, pattern))
        return [pattern]
    fitting = fnmatch.filter(os.listdir(folder), pattern)
    return [name for name in fitting if pattern.startswith(b".") or not name.startswith(b".")]


def _is_real_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _loss(name: bytes, error: OSError) -> Loss:
    outcome = Outcome.DENIED if error.errno in {errno.EACCES, errno.EPERM, errno.ELOOP} else Outcome.FAILED
    return Loss(quote(name), outcome, error.strerror or str(error))


def _try_to_copy(root: bytes, name: bytes, folder: Path) -> StoredFile | Loss | None:
    """Whatever is wrong with one file, a bad block of the disk or a trap, it costs that file and no other."""
    if name.count(b"/") > _DEEPEST:
        return Loss(quote(name), Outcome.FAILED, f"it lies more than {_DEEPEST} folders deep")
    try:
        return _copy(root, name, folder)
    except OSError as error:
        return _loss(name, error)
    except RecursionError:
        return Loss(quote(name), Outcome.FAILED, "a chain of links without end")


def _copy(root: bytes, name: bytes, folder: Path) -> StoredFile | Loss | None:
    """Copy one file; None for a folder of the workload, which is no file."""
    try:
        real = os.path.relpath(os.path.realpath(os.path.join(root, name)), os.path.realpath(root))
        if real == b".." or real.startswith(b"../"):
            return Loss(quote(name), Outcome.DENIED, f"a link that leads out of the workload, to {quote(real)}")
        if os.path.isdir(os.path.join(root, name)):
            return None
        descriptor = _open_below(os.path.realpath(root), real)
    except FileNotFoundError:
        return Loss(quote(name), Outcome.FAILED, "it vanished, or is a link to nothing")
    try:
        return _copy_open(
            descriptor, name, "" if real == os.path.normpath(name) else f"a link to {quote(real)}", folder
        )
    finally:
        os.close(descriptor)


def _open_below(root: bytes, name: bytes) -> int:
    """Open a file without following a link in any of its segments."""
    *folders, last = name.split(b"/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)


def _copy_open(descriptor: int, name: bytes, note: str, folder: Path) -> StoredFile | Loss:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        return Loss(quote(name), Outcome.FAILED, "not a regular file: a pipe, a socket or a device")
    stored = placed_name(name)
    path = folder / stored
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name[:200]}.part")
    try:
        with part.open("xb") as out:
            _copy_bytes(descriptor, out)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        note = "; ".join(filter(None, [note, "it changed while it was read"]))
    return StoredFile(stored, quote(name), path.stat().st_size, digest(path), before.st_mtime_ns, note)


def _copy_bytes(source: int, out: BinaryIO) -> None:
    """Let the kernel share blocks where it can; between two kinds of file systems, and of some odd files, it cannot."""
    with suppress(OSError):
        while os.copy_file_range(source, out.fileno(), _CHUNK):
            pass
    while block := os.read(source, _BLOCK):
        out.write(block)
