"""§7: learn from the kernel which files the API opens: fanotify(7), Linux 5.9, and 5.13 without root."""

import ctypes
import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasks.silence.events import call

_INIT: Final = 0x1 | 0x2 | 0x200  # CLOEXEC, NONBLOCK, REPORT_FID
Opened = Callable[[], set[str]]  # the names that were opened since it was called last


@contextmanager
def watch_opens(files: Mapping[str, Path], pids: Callable[[], Collection[int]]) -> Iterator[Opened]:
    """Watch which of these files one of these processes opens. One that cannot be watched never counts as opened.

    To a run without root the kernel names no process but our own: any other counts.
    """
    groups = dict[int, str]()
    try:
        for name, path in files.items():
            with suppress(OSError):
                groups[group := call("fanotify_init", _INIT, os.O_RDONLY)] = name
                call("fanotify_mark", group, 0x1, ctypes.c_uint64(0x20), -1, os.fsencode(path))  # ADD, OPEN
        yield lambda: {name for group, name in groups.items() if _openers(group) & {0, *pids()}}
    finally:
        for group in groups:
            os.close(group)


def _openers(group: int) -> set[int]:
    pids = set[int]()
    with suppress(BlockingIOError):
        while block := os.read(group, 1 << 16):
            at = 0
            while at < len(block):
                length, *_, pid = struct.unpack_from("=IBBHQii", block, at)
                pids.add(pid)
                at += length
    return pids
