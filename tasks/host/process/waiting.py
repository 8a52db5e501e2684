"""Find what of a folder a process waits at, by which it is reached or may act there without a file that is open.

That is a socket that was bound there (unix(7)), a folder that is open, a FIFO, or a watch (inotify(7)).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from stat import S_ISFIFO

from tasks.host.process.places import Places, View
from tasks.system.kernel_tables import read_table

_PATH, _WORDS = 7, 8
_MINOR_BITS = 20
_INOTIFY = "anon_inode:inotify"


class Sockets:
    """Which sockets were bound below a folder, by their names among open files; of each network namespace once."""

    def __init__(self, places: Places) -> None:
        """Read nothing yet."""
        self._places, self._known = places, dict[int, dict[str, str]]()

    def of(self, view: View) -> dict[str, str]:
        """Return those of the namespace of a process, with the paths by which they were bound."""
        with suppress(OSError):
            namespace = os.stat(f"/proc/{view.where}/ns/net").st_ino
            if namespace not in self._known:
                self._known[namespace] = dict(self._find(view))
            return self._known[namespace]
        return {}

    def _find(self, view: View) -> Iterator[tuple[str, str]]:
        for line in read_table(f"/proc/{view.where}/net/unix").split("\n")[1:]:
            words = line.split(maxsplit=_PATH)
            path = words[_PATH] if len(words) == _WORDS else ""
            if path.startswith("/"):
                if self._places.holds(view, path):
                    yield f"socket:[{words[_PATH - 1]}]", path
            elif path and not path.startswith("@") and (found := self._places.find_sockets(path)):
                yield f"socket:[{words[_PATH - 1]}]", found[0]


def find_waits(view: View, files: Iterable[tuple[str, str]], places: Places) -> str:
    """Return what of the folder a process has open or watches beside files; empty if nothing.

    `files` are its open files by the kernel's names, with a link to each. Raises ValueError if that is not known.
    """
    for path, link in files:
        if path.startswith("/") and places.holds(view, f"{path}/") and not places.is_apart(view, link):
            return f"it has a folder of the root open: {path}"
        if path.startswith("/") and places.holds(view, path) and _is_fifo(link):
            return f"it has a FIFO of the root open: {path}"
        if path == _INOTIFY and any(places.lists(each) for each in _find_watched(link) if places.may_hold(each[0])):
            return "it watches what happens in the root (inotify)"
    return ""


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
