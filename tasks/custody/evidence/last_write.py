"""Define what the workload may write as it is stopped, where only the look at it standing still had looked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LastWrite:
    """One file that was kept open over the stop, by a `link` to it in /proc, or a loss: then `reason` says why.

    `name` is its full path, percent-encoded: on this host, or in the `container`, which works in `folder`; empty for
    what a container printed. `size`, `mtime_ns`, `device` and `inode` are those before the stop; `pid` had it open,
    perhaps for writing (`written`).
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
    reason: str = ""
