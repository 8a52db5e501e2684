"""Find by names, sizes and times what has changed below a folder. Nothing is known of who changed it."""

import os
import stat
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from tasks.host.silence import SETTLE_SECONDS

Row = tuple[int, ...]
_MOST: Final = 5000


class Listing:
    """What differs from the listing that follows `arm`. `lost` says why that is not all."""

    def __init__(self, root: str, ours: list[str], beside: list[str]) -> None:
        """Take the folder, what in it is left out, and other folders, whose files go by their full paths."""
        self.root, self.ours, self.lost, self.groups = root, frozenset(ours), "", dict[int, int]()
        self._beside = beside
        self._since, self._before, self._settles = 0.0, dict[str, Row](), True

    def arm(self, *, settles: bool = True) -> list[dict[str, Any]]:
        """Plan the listing: `take` makes it, once what was ended has written its last words. Returns no changes."""
        self._since, self._before, self._settles = time.time(), {}, settles
        return []

    def take(self) -> None:
        """Make the listing."""
        if self._since and not self._before:
            time.sleep(SETTLE_SECONDS if self._settles else 0)
            self._before = self._list()

    def changes(self) -> list[dict[str, Any]]:
        """Return what differs now, with the time of the last writing, at least that of `arm`."""
        self.take()
        now = self._list()
        before = self._before
        files = sorted(file for file in now.keys() | before.keys() if now.get(file) != before.get(file))
        if len(files) > _MOST:
            self.lost = f"there were more than {_MOST} changes"
        return [self._change(file, before.get(file), now.get(file)) for file in files[:_MOST]]

    def _change(self, file: str, before: Row | None, now: Row | None) -> dict[str, Any]:
        """Return a difference, with device and inode of the file, and whether only the time of writing differs."""
        shown = os.fsencode(file).decode(errors="backslashreplace")
        at = max(self._since, (now[-1] if now else time.time_ns()) / 1e9)
        is_touch = before is not None and now is not None and before[:-1] == now[:-1]
        change = {"file": shown, "at": datetime.fromtimestamp(at, UTC).isoformat(), "pid": 0}
        return change | {"inode": (now or before or ())[:2], "is_touch": is_touch}

    def _list(self) -> dict[str, Row]:
        """Return device, inode, kind, size and time of writing of all that is below the folders and may be read.

        OSError if the root itself may not be read, or is gone.
        """
        found, folders = dict[str, Row](), ["", *self._beside]
        while folders:
            folder = folders.pop()
            with suppress(*([OSError] if folder else [])), os.scandir(_under(self.root, folder)) as entries:
                for entry in entries:
                    file = _under(folder, entry.name)
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if file not in self.ours:
                            found[file] = _row(status)
                            folders += [file] if stat.S_ISDIR(status.st_mode) else []
        return found


def _under(folder: str, name: str) -> str:
    """Return a name in a folder; a full path stays one."""
    return f"{folder}/{name}" if folder and not name.startswith("/") else name


def _row(status: os.stat_result) -> Row:
    written = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
    identity = status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)
    return (*identity, *((status.st_size, status.st_mtime_ns) if written else (0, 0)))
