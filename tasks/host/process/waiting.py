"""Find what of a folder a process waits at, by which it is reached or may act there without a file that is open.

That is a socket that was bound there (unix(7)), a folder that is open, a FIFO, a watch (inotify(7)), or a mount of its
own.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.host.process.places import Places, View
from tasks.host.process.process import Process
from tasks.system.kernel_tables import read_table
from tasks.system.unix_sockets import UnixSockets, inode_of

_MINOR_BITS: Final = 20
_INOTIFY: Final = "anon_inode:inotify"


def ask_for_sockets(processes: Iterable[Process]) -> UnixSockets:
    """Ask in our namespace and in those of these processes: one that has moved has its sockets where it was."""
    sockets, everywhere = UnixSockets(), ["self", *(str(process.pid) for process in processes)]
    for where in everywhere:
        with suppress(OSError):  # it has ended, or may not be looked into
            sockets.ask(where)
    return sockets


def find_bound(view: View, files: Iterable[tuple[str, str]], places: Places, sockets: UnixSockets) -> str:
    """Return by which path below the folder a process has bound one of its open files; empty if by none.

    Raises ValueError if that is not known.
    """
    numbers = [number for name, _ in files if (number := inode_of(name))]
    unread = sockets.ask(view.where) if numbers else ""
    for each in (sockets.found[number] for number in numbers if number in sockets.found):
        if found := places.find_socket(view, each):
            return found
    if unread:
        raise ValueError(f"at which files its sockets are could not be asked for: {unread}")
    return ""


def find_waits(view: View, files: Iterable[tuple[str, str]], places: Places, *, is_owner: bool) -> str:
    """Return what of the folder a process has open or watches beside files; empty if nothing.

    `files` are its open files by the kernel's names, with a link to each. Watches are looked at where it is of the
    account that owns the folder (`is_owner`), for that may take long.
    """
    for path, link in files:
        if path.startswith("/") and places.holds(view, f"{path}/") and not places.is_apart(view, link):
            return f"it has a folder of the root open: {path}"
        if path.startswith("/") and places.holds(view, path) and Path(link).is_fifo():
            return f"it has a FIFO of the root open: {path}"
        if path == _INOTIFY and is_owner:
            try:
                if any(places.contents.has(each) for each in _find_watched(link) if places.may_hold(each[0])):
                    return "it watches what happens in the root (inotify)"
            except ValueError:
                return "it may watch what happens in the root (inotify), which has too many files to tell"
    point = places.find_mount_of_part(view)
    return f"in its mounts a folder of the root is at {point}, where it may write" if point else ""


def _find_watched(link: str) -> Iterator[tuple[int, int]]:
    """Yield device and inode of what an inotify descriptor watches (proc(5)): numbers alone, all the kernel's."""
    with suppress(OSError, ValueError):
        for line in read_table(link.replace("/fd/", "/fdinfo/")).split("\n"):
            words = dict(word.partition(":")[::2] for word in line.split() if ":" in word)
            if line.startswith("inotify "):
                device = int(words["sdev"], 16)
                yield os.makedev(device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1)), int(words["ino"], 16)
