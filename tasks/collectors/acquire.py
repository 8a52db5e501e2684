"""Acquisition: runs one collector's sources into a folder, and reports each file or loss as soon as it is known.

Runs in a process of its own, so that a hang, a crash or a hostile file costs one collector and no more.
"""

import errno
import glob
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.collectors.collector import Collector, Command, Files, Made, NothingThere, Source, Target
from tasks.custody.evidence import Loss, Outcome, StoredFile
from tasks.custody.keys import quote, stored_name
from tasks.custody.manifest import digest
from tasks.custody.redact import redact

_CHUNK = 1 << 30
_WORDS = 300
_DENIED = ("not permitted", "permission denied")
_NOT_THERE = ("not a git repository", "unknown revision", "bad revision")


def acquire(collector: Collector, target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    """Run every source; one that fails leaves a Loss and the others still run."""
    for source in collector.sources:
        try:
            yield from _from_source(source, target, folder)
        except NothingThere as reason:
            yield Loss(_name(source), Outcome.MISSING, str(reason))
        except PermissionError as error:
            yield Loss(_name(source), Outcome.DENIED, str(error))
        except Exception as error:  # noqa: BLE001  a collector may fail in any way; none may pass in silence
            yield Loss(_name(source), Outcome.FAILED, f"{type(error).__name__}: {error}")


def _name(source: Source) -> str:
    return source.field if isinstance(source, Files) else source.stored


def _from_source(source: Source, target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    match source:
        case Made():
            yield _store(folder, source.stored, source.make(target))
        case Command():
            yield _run(source, target, folder)
        case Files():
            yield from _copy_all(target, source.field, folder)


def _store(folder: Path, stored: str, data: bytes) -> StoredFile:
    path = folder / stored
    path.write_bytes(data)
    return StoredFile(stored, "", len(data), digest(path))


def _run(command: Command, target: Target, folder: Path) -> StoredFile | Loss:
    if not shutil.which(command.argv[0]):
        raise NothingThere(f"{command.argv[0]} is not installed")
    user = target.owner if command.as_owner and os.geteuid() == 0 and target.owner else None
    done = subprocess.run(
        command.argv,
        cwd=target.root,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        user=user,
        group=user and _group(target),
        extra_groups=[] if user else None,
    )
    if done.returncode:
        return _refusal(command, done.stderr.decode(errors="replace").strip().partition("\n")[0][:_WORDS])
    lines = redact(done.stdout.decode(errors="backslashreplace")).splitlines(keepends=True)
    return _store(folder, command.stored, "".join(lines[-command.last :]).encode())


def _group(target: Target) -> int:
    return Path(target.root).stat().st_gid


def _refusal(command: Command, words: str) -> Loss:
    lower = words.lower()
    if any(text in lower for text in _DENIED):
        return Loss(command.stored, Outcome.DENIED, words)
    if any(text in lower for text in _NOT_THERE):
        return Loss(command.stored, Outcome.MISSING, words)
    return Loss(command.stored, Outcome.FAILED, words or "no message")


def _copy_all(target: Target, field: str, folder: Path) -> Iterator[StoredFile | Loss]:
    root = os.fsencode(target.root)
    patterns = target.globs[field]
    names = {name for pattern in patterns for name in glob.iglob(os.fsencode(pattern), root_dir=root, recursive=True)}
    if not names:
        raise NothingThere(f"no file matches {', '.join(patterns)}")
    for name in sorted(names):
        if not os.path.isdir(os.path.join(root, name)):
            yield _copy(root, name, folder)


def _copy(root: bytes, name: bytes, folder: Path) -> StoredFile | Loss:
    try:
        real = os.path.relpath(os.path.realpath(os.path.join(root, name)), os.path.realpath(root))
        if real == b".." or real.startswith(b"../"):
            return Loss(quote(name), Outcome.DENIED, f"a link that leads out of the workload, to {quote(real)}")
        descriptor = _open_below(os.path.realpath(root), real)
    except FileNotFoundError:
        return Loss(quote(name), Outcome.FAILED, "it vanished, or is a link to nothing")
    except OSError as error:
        outcome = Outcome.DENIED if error.errno in {errno.EACCES, errno.EPERM, errno.ELOOP} else Outcome.FAILED
        return Loss(quote(name), outcome, error.strerror or str(error))
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
    stored = stored_name(name if b"/" in name else b"./" + name)
    path = folder / stored
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name[:200]}.part")
    with part.open("xb") as out:
        while os.copy_file_range(descriptor, out.fileno(), _CHUNK):
            pass
    part.replace(path)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        note = "; ".join(filter(None, [note, "it changed while it was read"]))
    return StoredFile(stored, quote(name), path.stat().st_size, digest(path), before.st_mtime_ns, note)
