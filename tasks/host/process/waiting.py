"""Find what of a folder a process waits at, by which it is reached or may act there without a file that is open.

That is a socket that was bound there (unix(7)), a folder that is open, a FIFO, a watch (inotify(7)), or a mount of its
own.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from stat import S_ISFIFO
from typing import Final

from tasks.host.process.places import Places, View
from tasks.system.kernel_tables import read_table

_PATH: Final = 7
_MINOR_BITS: Final = 20
_INOTIFY: Final = "anon_inode:inotify"


class Sockets:
    """The sockets that were bound by a path, by their names among open files; of each network namespace read once."""

    def __init__(self, places: Places) -> None:
        """Read nothing yet."""
        self._places, self._known = places, dict[int, dict[str, str]]()

    def find(self, view: View, files: Iterable[tuple[str, str]], *, is_owner: bool) -> str:
        """Return by which path below the folder a process has bound one of its open files; empty if by none.

        Where a relative path leads nobody tells: of the account that owns the folder (`is_owner`) it counts if there is
        such a socket below.
        """
        names = [name for name, _ in files if name.startswith("socket:")]
        bound = self._of(view) if names else {}
        for path in (bound[name] for name in names if name in bound):
            if path.startswith("/"):
                found = path if self._may_hold(view, path) else ""
            else:
                found = self._places.contents.find_socket(path) if is_owner else ""
            if found:
                return found
        return ""

    def _of(self, view: View) -> dict[str, str]:
        with suppress(OSError):
            namespace = os.stat(f"/proc/{view.where}/ns/net").st_ino
            if namespace not in self._known:
                self._known[namespace] = dict(_bound(read_table(f"/proc/{view.where}/net/unix")))
            return self._known[namespace]
        return {}

    def _may_hold(self, view: View, path: str) -> bool:
        try:
            return self._places.holds(view, path)
        except ValueError:  # it lies too deep
            return True


def _bound(table: str) -> Iterator[tuple[str, str]]:
    """Yield the sockets of a table that have a file, each with its path."""
    for line in table.split("\n")[1:]:
        words = line.split(maxsplit=_PATH)
        if len(words) > _PATH and not words[_PATH].startswith("@"):
            yield f"socket:[{words[_PATH - 1]}]", words[_PATH]


def find_waits(view: View, files: Iterable[tuple[str, str]], places: Places, *, is_owner: bool) -> str:
    """Return what of the folder a process has open or watches beside files; empty if nothing.

    `files` are its open files by the kernel's names, with a link to each. Watches are looked at where it is of the
    account that owns the folder (`is_owner`), for that may take long.
    """
    for path, link in files:
        if path.startswith("/") and places.holds(view, f"{path}/") and not places.is_apart(view, link):
            return f"it has a folder of the root open: {path}"
        if path.startswith("/") and places.holds(view, path) and _is_fifo(link):
            return f"it has a FIFO of the root open: {path}"
        if path == _INOTIFY and is_owner:
            try:
                if any(places.contents.has(each) for each in _find_watched(link) if places.may_hold(each[0])):
                    return "it watches what happens in the root (inotify)"
            except ValueError:
                return "it may watch what happens in the root (inotify), which has too many files to tell"
    point = places.find_mount_of_part(view)
    return f"in its mounts a folder of the root is at {point}, where it may write" if point else ""


def _is_fifo(link: str) -> bool:
    with suppress(OSError):
        return S_ISFIFO(os.stat(link).st_mode)
    return False


def _find_watched(link: str) -> Iterator[tuple[int, int]]:
    """Yield device and inode of what an inotify descriptor watches, as the kernel tells of it (proc(5))."""
    with suppress(OSError, ValueError):
        for line in read_table(link.replace("/fd/", "/fdinfo/")).split("\n"):
            words = dict(word.partition(":")[::2] for word in line.split() if ":" in word)
            if line.startswith("inotify "):
                device = int(words["sdev"], 16)
                yield os.makedev(device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1)), int(words["ino"], 16)
