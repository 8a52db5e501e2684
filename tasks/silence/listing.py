"""Find by names, sizes and times what has changed below a folder, from one listing to the next."""

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from tasks.custody.containment.silence import SETTLE_SECONDS

Row = tuple[int, ...]
_MOST: Final = 5000
_WRITTEN: Final = 4


class Listing:
    """What differs from the listing that follows `arm`. Nothing is known of who changed it, and why `lost` all is."""

    descriptors: Final[tuple[int, ...]] = ()

    def __init__(self, root: str, ours: Iterable[str], mark: str) -> None:
        """Take the folder, and what in it is left out."""
        del mark
        self.root, self.ours, self.lost = root, frozenset(ours), ""
        self._before: dict[str, Row] = {}
        self._since = 0.0
        self._due = False

    def arm(self) -> None:
        """Plan the first listing: `take` makes it, when the last words of what was ended are written."""
        self._since, self._due = time.time(), True

    def take(self) -> None:
        """Make the first listing."""
        if self._due:
            time.sleep(SETTLE_SECONDS)
            self._before, self._due = self._list(), False

    def changes(self) -> list[dict[str, Any]]:
        """Return what differs now from the first listing, at most 5000."""
        self.take()
        now = self._list()
        files = sorted(file for file in now.keys() | self._before.keys() if now.get(file) != self._before.get(file))
        if len(files) > _MOST:
            self.lost = f"more than {_MOST} changes"
        shown = {file: os.fsencode(file).decode(errors="backslashreplace") for file in files[:_MOST]}
        return [{"file": shown[file], "at": self._time_of(now.get(file, ())), "pid": 0} for file in shown]

    def _time_of(self, row: Row) -> str:
        """Return when a file was written last; now, if it was before `arm`, as of one that was moved here."""
        now, written = time.time(), row[-1] / 1e9 if len(row) == _WRITTEN else 0.0
        return datetime.fromtimestamp(written if self._since <= written <= now else now, UTC).isoformat()

    def _list(self) -> dict[str, Row]:
        """Return kind and inode of all that is below the root, of files and links also size and time of writing.

        OSError if the root is gone. What may not be read below it is left out.
        """
        found, folders = dict[str, Row](), [""]
        while folders:
            folder = folders.pop()
            with suppress(*(OSError,) if folder else ()), os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118
                for entry in entries:
                    file = f"{folder}/{entry.name}" if folder else entry.name
                    if file in self.ours:
                        continue
                    with suppress(FileNotFoundError):
                        about = entry.stat(follow_symlinks=False)
                        found[file] = _row(about)
                        if stat.S_ISDIR(about.st_mode):
                            folders.append(file)
        return found


def _row(about: os.stat_result) -> Row:
    same = stat.S_IFMT(about.st_mode), about.st_ino
    written = stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode)
    return (*same, about.st_size, about.st_mtime_ns) if written else same
