"""§7: learn from the kernel which files the API opens: fanotify(7), Linux 5.9, and 5.13 without root."""

import ctypes
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasks.silence.events import OVERFLOW, call, parse_events

_INIT: Final = 0x1 | 0x2 | 0x200  # CLOEXEC, NONBLOCK, REPORT_FID
_UNLIMITED: Final = 0x10 | 0x20  # QUEUE, MARKS: root's alone
_FOLLOW: Final = 0x400
_FID: Final = 0x200  # AT_HANDLE_FID: since Linux 6.5 files of an overlay have a handle too
_HERE: Final = -100
_LONGEST: Final = 128
Opened = Callable[[], set[str]]  # the names that were opened since it was called last


@contextmanager
def watch_opens(files: Mapping[str, Path], pids: Callable[[], Collection[int]]) -> Iterator[Opened]:
    """Watch which of these files one of these processes opens. One that cannot be watched never counts as opened.

    To a run without root the kernel names no process but our own: any other counts.
    """
    with _watch(files) as (find, _):

        def find_opened() -> set[str]:
            openers, ours = find(), {0, *pids()}
            return {name for pid, name in openers if pid in ours}

        yield find_opened


@contextmanager
def watch_reads(files: Mapping[str, Path], others: Callable[[], Collection[int]]) -> Iterator[Opened]:
    """Watch which of these files anybody opens but ourselves and the `others`. One that cannot be watched counts.

    So a reader counts that has ended meanwhile, as a child of a start script does.
    """
    with _watch(files) as (find, unseen):

        def find_opened() -> set[str]:
            openers, known = find(), {os.getpid(), *others()}
            return {name for pid, name in openers if pid not in known} | unseen

        yield find_opened


@contextmanager
def _watch(files: Mapping[str, Path]) -> Iterator[tuple[Callable[[], set[tuple[int, str]]], set[str]]]:
    """Watch files: yield what returns who has opened which since, and those of which that is not seen (yet)."""
    names, unseen, group = defaultdict[bytes, set[str]](set), {*files}, -1
    try:
        for flags in (_INIT | _UNLIMITED, _INIT):
            with suppress(OSError):
                group = group if group >= 0 else call("fanotify_init", flags, os.O_RDONLY)
        for name, path in files.items():
            with suppress(OSError):
                call("fanotify_mark", group, 0x1, ctypes.c_uint64(0x20), -1, os.fsencode(path))  # ADD, OPEN
                names[_handle_of(path)].add(name)
                unseen.discard(name)

        def find() -> set[tuple[int, str]]:
            found = set[tuple[int, str]]()
            for pid, handle in _openers(group):
                found |= {(pid, name) for name in names.get(handle, ())}
                unseen.update(() if handle else files)
            return found

        yield find, unseen
    finally:
        if group >= 0:
            os.close(group)


def _handle_of(path: Path) -> bytes:
    """Return the handle by which the kernel knows a file (name_to_handle_at(2)), as its events have it."""
    buffer, mount = ctypes.create_string_buffer(struct.pack("=Ii", _LONGEST, 0), 8 + _LONGEST), ctypes.c_int()
    try:
        call("name_to_handle_at", _HERE, os.fsencode(path), buffer, ctypes.byref(mount), _FOLLOW | _FID)
    except OSError:
        call("name_to_handle_at", _HERE, os.fsencode(path), buffer, ctypes.byref(mount), _FOLLOW)
    return buffer.raw[: 8 + int(struct.unpack_from("=I", buffer)[0])]


def _openers(group: int) -> Iterator[tuple[int, bytes]]:
    """Yield who has opened what since: pid and handle of each event; no handle if some were lost."""
    with suppress(OSError):  # none is left, or there is no group
        while block := os.read(group, 1 << 16):
            for mask, pid, handle, _ in parse_events(block):
                if mask & OVERFLOW or handle:
                    yield pid, b"" if mask & OVERFLOW else handle
