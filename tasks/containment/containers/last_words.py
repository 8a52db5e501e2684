"""§3: keep what a container writes in its graceful stop if the engine removes it at its end (`docker run --rm`).

The kernel gives an open file with each event (fanotify, as root, of an engine on this host): its content outlives the
container.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from tasks.custody.errors import EngineError
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.last_write import LastWrite, link_to
from tasks.host.container.docker_engine import Engine
from tasks.host.container.membership import Container
from tasks.silence.events import call
from tasks.system.cancellation import run_in_thread

_INIT: Final = 0x1 | 0x2 | 0x10  # CLOEXEC, NONBLOCK, UNLIMITED_QUEUE
_MARK: Final = 0x1 | 0x10  # ADD, MOUNT
_WRITTEN: Final = 0x2 | 0x8  # MODIFY, CLOSE_WRITE
_EVENT: Final = struct.Struct("=IBBHQii")
_BLOCK: Final = 64 * _EVENT.size  # each event opens a file
_MOST: Final = 200
_LOG_SECONDS: Final = 5.0
_DELETED: Final = b" (deleted)"
_STAMP: Final = len("2026-01-01T00:00:00.000000")


class LastWords:
    """What one container writes and prints from now on, until it has ended."""

    def __init__(self, engine: Engine, container: Container, root: PurePath, paused_at: datetime) -> None:
        """Listen to its layer, and to each mount but those of the workload's root. OSError, EngineError if denied.

        What it had printed until `paused_at` has been taken.
        """
        self._name, self._folder = container.name, container.folder
        self._paused_at = paused_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        self._groups, self._bases = dict[int, tuple[str, int]](), list[int]()
        real = os.path.realpath(root)
        others = [each for each in container.mounts if not PurePath(os.path.realpath(each.source)).is_relative_to(real)]
        try:
            for target in ("/", *(str(each.target) for each in others if each.writable)):
                place = os.fsencode(f"/proc/{container.pid}/root{target}")
                base = os.open(place, os.O_PATH | os.O_CLOEXEC)
                self._bases.append(base)
                self._groups[group := call("fanotify_init", _INIT, os.O_RDONLY)] = target, base
                call("fanotify_mark", group, _MARK, ctypes.c_uint64(_WRITTEN), -1, place)
            output = engine.follow(container.id)
        except BaseException:
            self.close()
            raise
        self._printed = run_in_thread(lambda: [*output])[0]

    def close(self) -> None:
        """Listen no more."""
        for each in (*self._groups, *self._bases):
            os.close(each)
        self._groups.clear()
        self._bases.clear()

    def take(self) -> Iterator[LastWrite]:
        """Yield what it wrote and printed, once it has ended. Each file stays open, for collectors to read."""
        with suppress(EngineError, TimeoutError):
            lines = b"".join(self._printed.result(_LOG_SECONDS)).splitlines(keepends=True)
            if new := b"".join(line for line in lines if line[:_STAMP].decode(errors="replace") > self._paused_at):
                memory = os.memfd_create("container.log")
                with os.fdopen(os.dup(memory), "wb") as copy:
                    copy.write(new)
                yield self._describe("", memory)
        if not self._printed.done() or self._printed.exception():
            yield LastWrite(
                container=self._name, reason="what it printed as it was stopped could not be read to its end"
            )
        seen = set[tuple[int, int]]()
        for group, (target, base) in self._groups.items():
            try:
                for file in _read(group):
                    status = os.fstat(file)
                    if (key := (status.st_dev, status.st_ino)) in seen or len(seen) >= _MOST:
                        os.close(file)
                    else:
                        yield self._describe(_name(file, target, base), file)
                    seen.add(key)
            except OSError as error:
                reason = f"what it wrote to {target} as it was stopped is not known: {error.strerror}"
                yield LastWrite(container=self._name, reason=reason)
        if len(seen) > _MOST:
            yield LastWrite(container=self._name, reason=f"it wrote {len(seen)} files as it was stopped, above {_MOST}")

    def _describe(self, name: str, file: int) -> LastWrite:
        status = os.fstat(file)
        return LastWrite(name, link_to(file), self._name, self._folder, status.st_dev, status.st_ino)


def _read(group: int) -> Iterator[int]:
    """Yield an open file of each event."""
    try:
        while block := os.read(group, _BLOCK):
            for at in range(0, len(block), _EVENT.size):
                if (file := _EVENT.unpack_from(block, at)[5]) >= 0:
                    yield file
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise


def _name(file: int, target: str, base: int) -> str:
    """Return the path that a file has, or had, in the container: below a mount's place, where `base` is its root."""
    path, at = _path(file), _path(base).rstrip(b"/")
    return quote(os.fsencode(target).rstrip(b"/") + path.removeprefix(at) if path != at else os.fsencode(target))


def _path(file: int) -> bytes:
    """Return a path as it is shown now: that of a mount that has ended begins with the mount's root."""
    return os.fsencode(os.readlink(f"/proc/self/fd/{file}")).removesuffix(_DELETED)  # noqa: PTH115
