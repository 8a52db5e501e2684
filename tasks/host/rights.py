"""Tell which capabilities we have, and whether /proc hides processes of other accounts from us."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from tasks.system.kernel_tables import read_table

_SYS_PTRACE: Final = 19
_PLACE: Final = 4


def effective_capabilities() -> int:
    """Return CapEff of this process."""
    lines = Path("/proc/self/status").read_text(errors="replace").split("\n")
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def hidden_by(mounts: str, effective: int, groups: Collection[int]) -> str:
    """Return the option of /proc, by /proc/self/mountinfo, that hides processes from us; empty if none does (proc(5)).

    `effective` are our capabilities, `groups` the ids of our groups. Only root mounts /proc.
    """
    lines = (line.split(" ") for line in mounts.split("\n"))
    options = [words[-1] for words in lines if words[_PLACE : _PLACE + 1] == ["/proc"]]
    values = dict(each.partition("=")[::2] for each in options[-1].split(",")) if options else {}
    hides = values.get("hidepid", "off")
    sees = hides not in {"ptraceable", "4"} and int(values.get("gid", 0)) in groups
    return "" if hides in {"off", "0"} or sees or effective >> _SYS_PTRACE & 1 else f"hidepid={hides}"


def hidden_from_us() -> str:
    """Return `hidden_by` for this process."""
    mounts = read_table("/proc/self/mountinfo")
    return hidden_by(mounts, effective_capabilities(), {os.getegid(), *os.getgroups()})
