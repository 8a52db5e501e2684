"""List what lies below a folder, by device and inode, once it is asked for: within one look that does not change."""

import os
import time
from collections.abc import Callable, Collection, Container
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from tasks.host.process.handles import FileId

_SECONDS: Final = 3.0
LOWER: Final = 0xFFFFFFFF
"""The bits of an inode's number that sock_diag(7) tells."""


class Contents:
    """What lies below a folder, but for what lies on a network's file system."""

    def __init__(self, root: str, tops: Collection[FileId], find_slow: Callable[[], Container[str]]) -> None:
        """Read nothing yet. `tops` are the folder and what is mounted below it; `find_slow` tells what is left out."""
        self._root, self._tops, self._find_slow = root, tops, find_slow

    def has(self, file: FileId) -> bool:
        """Return whether what has this device and inode is the folder or below it.

        Raises ValueError if it holds more than there is time for, so that this is not known.
        """
        entries, whole = self._entries
        if file not in entries and file not in self._tops and not whole:
            raise ValueError(f"{self._root} holds more files than there is time to look for one by its other names")
        return file in entries or file in self._tops

    def find_socket(self, number: int) -> str:
        """Return a socket below whose inode has these lower 32 bits, of which the kernel tells; empty if there is none.

        Raises ValueError as `has` does.
        """
        entries, whole = self._entries
        names = (path for (_, inode), path in entries.items() if path and inode & LOWER == number)
        if not (found := next((path for path in names if Path(path).is_socket()), "")) and not whole:
            raise ValueError(f"{self._root} holds more files than there is time to look for a socket")
        return found

    @cached_property
    def owner(self) -> int | None:
        """The account that the folder is of; None if it is not there."""
        with suppress(OSError):
            return os.stat(self._root).st_uid
        return None

    @cached_property
    def _entries(self) -> tuple[dict[FileId, str], bool]:
        """All that is below, with the name of what is no regular file, and whether there was time for all."""
        slow, deadline = self._find_slow(), time.monotonic() + _SECONDS
        folders, found = [self._root], dict[FileId, str]()
        while folders:
            if time.monotonic() > deadline:
                return found, False
            with suppress(OSError), os.scandir(folder := folders.pop()) as entries:
                device = os.stat(folder).st_dev
                for each in entries:
                    found[device, each.inode()] = "" if each.is_file(follow_symlinks=False) else each.path
                    if each.is_dir(follow_symlinks=False) and each.path not in slow:
                        folders.append(each.path)
        return found, True
