"""Define what the workload may write as it is stopped, where only the look at it standing still had looked."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_FOLDER: Final = "/proc/{}/fd/"


@dataclass(frozen=True)
class LastWrite:
    """One file that was kept open over the stop, by a `link` to it in /proc, or a loss: then `reason` says why.

    `name` is its full path, percent-encoded: on this host, or in the `container`, which works in `folder`; empty for
    what a container printed. `size`, `mtime_ns`, `device` and `inode` are those before the stop, and `sha256` if it was
    mapped and read; `pid` had it open, perhaps for writing (`written`).
    """

    name: str = ""
    link: str = ""
    container: str = ""
    folder: str = ""
    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    pid: int = 0
    written: bool = True
    sha256: str = ""
    reason: str = ""

    def is_of(self, status: os.stat_result) -> bool:
        """Return whether this is the status of that file."""
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    def close(self) -> None:
        """Keep the file open no more, if this process does."""
        with suppress(OSError, ValueError):
            number = int(self.link.removeprefix(_FOLDER.format(os.getpid())))
            if self.is_of(os.fstat(number)):
                os.close(number)


def link_to(file: int) -> str:
    """Return by which path every process of ours reads a file that this one has open."""
    return f"{_FOLDER.format(os.getpid())}{file}"
