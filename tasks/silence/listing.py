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

    def __init__(self, root: str, ours: list[str]) -> None:
        """Take the folder, and what in it is left out."""
        self.root, self.ours, self.lost, self.groups = root, frozenset(ours), "", dict[int, int]()
        self._since, self._before = 0.0, dict[str, Row]()

    def arm(self) -> list[dict[str, Any]]:
        """Plan the listing: `take` makes it, once what was ended has written its last words. Returns no changes."""
        self._since, self._before = time.time(), {}
        return []

    def take(self) -> None:
        """Make the listing."""
        if self._since and not self._before:
            time.sleep(SETTLE_SECONDS)
            self._before = self._list()

    def changes(self) -> list[dict[str, Any]]:
        """Return what differs now, with the time of the last writing, at least that of `arm`."""
        self.take()
        now = self._list()
        files = sorted(file for file in now.keys() | self._before.keys() if now.get(file) != self._before.get(file))
        if len(files) > _MOST:
            self.lost = f"there were more than {_MOST} changes"
        return [_change(file, max(self._since, now.get(file, (time.time_ns(),))[-1] / 1e9)) for file in files[:_MOST]]

    def _list(self) -> dict[str, Row]:
        """Return inode, kind, size and time of writing of all that is below the root and may be read.

        OSError if the root itself may not be read, or is gone.
        """
        found, folders = dict[str, Row](), [""]
        while folders:
            folder = folders.pop()
            with suppress(*([OSError] if folder else [])), os.scandir(f"{self.root}/{folder}") as entries:
                for entry in entries:
                    file = f"{folder}/{entry.name}".lstrip("/")
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if file not in self.ours:
                            found[file] = _row(status)
                            folders += [file] if stat.S_ISDIR(status.st_mode) else []
        return found


def _row(status: os.stat_result) -> Row:
    written = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
    return (status.st_ino, stat.S_IFMT(status.st_mode), *((status.st_size, status.st_mtime_ns) if written else (0, 0)))


def _change(file: str, at: float) -> dict[str, Any]:
    shown = os.fsencode(file).decode(errors="backslashreplace")
    return {"file": shown, "at": datetime.fromtimestamp(at, UTC).isoformat(), "pid": 0}
