"""Detach what another account has mounted over a workload's root, so that root can look into it.

An account may mount a FUSE file system on a folder of its own, and unless it is told otherwise the kernel shows that to
the account alone: root gets EACCES (mount.fuse3(8), allow_other). What has it open goes on with it.
"""

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Final

from tasks.system.kernel_tables import read_table, unescape
from tasks.system.time_limit import time_limit

_DETACH: Final = 2 | 8  # MNT_DETACH, UMOUNT_NOFOLLOW
_MOST: Final = 64
_OWNER: Final = re.compile(r"\buser_id=([1-9]\d*)\b")
DETACHED: Final = list[str]()
"""What this process has detached, a line each: it is missing in the evidence."""


def uncover(root: Path) -> list[str]:
    """Detach other accounts' FUSE file systems at or above the root, while root itself may not look into it.

    Return what was detached, a line each.
    """
    detached = list[str]()
    kernel = ctypes.CDLL(None, use_errno=True)
    for _ in range(_MOST):
        if os.geteuid() or not _is_hidden(root) or not (found := _cover(root)):
            break
        point, account = found
        if kernel.umount2(os.fsencode(point), _DETACH):
            break
        lost = f"a FUSE file system of account {account} lay over {point} and was detached: "
        detached.append(f"{lost}what lies in it was not collected")
        time_limit().lose(detached[-1])
    DETACHED.extend(detached)
    return detached


def _is_hidden(root: Path) -> bool:
    try:
        root.stat()
    except OSError as error:
        return error.errno in {errno.EACCES, errno.ENOTCONN}
    return False


def _cover(root: Path) -> tuple[str, str] | None:
    """Return mount point and account of the last FUSE file system of another account that the root lies in.

    Its options are the kernel's; kind and source before them are texts of who mounted, without a space.
    """
    for line in reversed(read_table("/proc/self/mountinfo").split("\n")):
        mount, _, system = line.partition(" - ")
        if not system.startswith("fuse") or not (owner := _OWNER.search(system.rpartition(" ")[2])):
            continue
        point = unescape(mount.split(" ")[4])
        if root.is_relative_to(point):
            return point, owner[1]
    return None
