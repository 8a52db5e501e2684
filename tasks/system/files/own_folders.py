"""Find our own folders among those of a folder in which every account may have made any number."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from tasks.system.time_limit import time_limit


def own_folders(parent: Path, start: str) -> list[Path]:
    """Return the folders of this account whose names begin with `start`, by name.

    Where others may have made folders too, told is what no time is left for.
    """
    found, limit, is_shared = [], time_limit(), not is_private(parent)
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if is_shared and not limit.remaining():
                limit.lose(f"{parent} could not be read to its end in time: what is ours there may not be known")
                break
            if entry.name.startswith(start) and is_private(parent / entry.name):
                found.append(parent / entry.name)
    return sorted(found)


def is_private(folder: Path) -> bool:
    """Return whether this is a folder of our account that nobody else may write to, and no link to one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
