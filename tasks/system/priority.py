"""Raise a process above everything that computes on this machine, or put it back.

Nice alone does not help: with sched_autogroup the kernel first divides the processor among sessions, and only then by
nice within each. Below a control group of its own (a systemd unit) neither counts across groups: there CPUWeight does.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

NICE: Final = -15
OOM: Final = -900
"""Out of reach of the kernel where memory runs out, as far as that goes: a training that fills it is why we run."""


def take_priority() -> None:
    """For this process and what it starts; where the right (SYS_NICE, SYS_RESOURCE) is missing, it goes without."""
    who = os.getpid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, who, NICE)
    _write(who, "autogroup", NICE)
    _write(who, "oom_score_adj", OOM)


def give_way(pid: int | None = None) -> None:
    """Take that back for what is a program like any other. Needs no right."""
    who = pid or os.getpid()
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, who) < 0:
            os.setpriority(os.PRIO_PROCESS, who, 0)
    for name, now in _marks(who):
        if now < 0:
            _write(who, name, 0)


def _marks(pid: int) -> Iterable[tuple[str, int]]:
    """What stands in its files, in /proc; a kernel may lack the first."""
    for name in ("autogroup", "oom_score_adj"):
        with suppress(OSError, ValueError, IndexError):
            yield name, int(Path(f"/proc/{pid}/{name}").read_text().split()[-1])


def _write(pid: int, name: str, value: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{pid}/{name}").write_text(str(value))


def main(command: list[str]) -> None:
    """Become a program that stands before what computes: `python -m tasks.system.priority prefect server start`."""
    take_priority()
    os.execvp(command[0], command)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
